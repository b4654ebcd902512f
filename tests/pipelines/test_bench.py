"""Which ways of a bench do nothing in so few steps."""

from __future__ import annotations

from mindsd.pipelines.bench import computes_all, ways


def test_no_cache_leaves_out_one_of_few_steps():
    every = ways(8)
    cached = [way for way in every if way.acceleration.step_cache is not None]
    assert cached and computes_all(every, 8) == cached == computes_all(every, 8, flow=True)


def test_all_leave_some_out_of_many_or_may():
    assert computes_all(ways(24), 24) == []
