"""What a step cache is asked, and the plan that it makes."""

import pytest

from mindsd.errors import RequestError
from mindsd.stepcache.plan import Kind, StepCache

W, S, N = Kind.WHOLE, Kind.SHALLOW, Kind.SKIPPED
TEXTS = [
    "interval:3",
    "skip:2",
    "adaptive:0.08",
    "tolerance:0.02",
    "plan:10-1",
    "speed:balanced",
    "speed:fast,least=8",
    "plan:10-1,timed=1",
    "interval:2,order=0,first=3,last=2,least=1",
    "adaptive:0.1,most=2",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read_and_written(text):
    assert str(StepCache.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    " interval interval:x interval:0 adaptive:-1 adaptive:nan plan: plan:12 taylor:3 "
    "interval:2,order=2 interval:2,first=0 interval:2,bold=1 interval:2,most "
    "speed: speed:lossless speed:slow interval:2,timed=1 speed:fast,timed=1 plan:11,timed=2 "
    "tolerance:-1 tolerance:inf tolerance:0.1,order=0".split(" "),
)
def test_what_cannot_be_a_plan(text):
    with pytest.raises(RequestError):
        StepCache.parse(text)


def test_every_so_many_steps_run_whole_and_the_ends_always():
    assert StepCache(interval=3).fixed(13) == [W, S, S, W, S, S, W, S, S, W, S, S, W]
    assert StepCache(interval=3, first=2).fixed(13) == [W, W, S, S, W, S, S, W, S, S, W, S, W]
    assert StepCache(interval=1).fixed(12) == [W] * 12


def test_a_mask_computes_as_many_steps_of_any_count_at_the_same_shares_of_the_way():
    plan = StepCache.parse("plan:1-10-1,least=1")
    assert plan.fixed(6) == [W, N, W, S, N, W]
    assert plan.fixed(11) == [W, N, N, N, W, S, S, S, N, N, W]
    assert plan.fixed(3) == [W, W, W]
    assert StepCache.parse("plan:1,least=1").fixed(3) == [W, W, W]


def test_a_timed_mask_computes_at_the_same_times_however_the_steps_are_spaced():
    times = [1000.0, 990.0, 960.0, 900.0, 720.0, 500.0, 300.0, 125.0]
    plan = StepCache.parse("plan:1-1--1-0-1,timed=1,least=1,last=0")
    assert plan.fixed(8, times) == [W, N, N, N, W, W, S, W]
    by_number = StepCache.parse("plan:1-1--1-0-1,least=1,last=0")
    assert by_number.fixed(8, times) == by_number.fixed(8) == [W, N, W, N, W, N, S, W]


@pytest.mark.parametrize("end", [0.0, 100.0])
def test_where_steps_lie_evenly_time_is_their_number(end: float):
    plan = StepCache.parse("plan:1-1--1-0-1,timed=1,least=1")
    times = [1000 - (1000 - end) * step / 12 for step in range(13)]
    assert plan.fixed(13, times) == plan.fixed(13)


def test_what_kinds_of_steps_a_plan_asks_for():
    texts = ["interval:2", "skip:2", "adaptive:0.1", "tolerance:0.1", "plan:1-1", "plan:10-1"]
    kinds = [StepCache.parse(text).uses for text in texts]
    assert kinds == [{W, S}, {W, N}, {W, S}, {W, N}, {W, N}, {W, S, N}]


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("steps", [20, 24, 28, 50])
def test_a_speed_computes_as_many_steps_of_any_count(flow: bool, steps: int):
    names = ("quality", "balanced", "fast")
    plans = [StepCache.parse(f"speed:{name},most=3").settled(flow=flow) for name in names]
    kinds = [plan.fixed(steps) or [] for plan in plans]
    fewer = 1 if steps == 20 and not flow else 0  # two of the mask fall on one step
    assert [own.count(W) for own in kinds] == [13 - fewer, 10, 8 if flow else 7]
    assert all(set(own) == {W, N} for own in kinds)
    assert {plan.most for plan in plans} == {3} and plans[0].settled(flow=not flow) is plans[0]
    assert StepCache(speed="fast").uses == plans[2].uses


def test_few_steps_are_not_cached():
    assert StepCache(interval=2).fixed(11) == [W] * 11
    assert StepCache(interval=2).fixed(12) != [W] * 12


def test_an_adaptive_plan_is_not_known_beforehand():
    assert StepCache(threshold=0.1).fixed(20) is None
    assert StepCache(threshold=0.0).fixed(20) == [W] * 20
    assert StepCache(tolerance=0.1).fixed(20) is None
    assert StepCache(tolerance=0.0).fixed(20) == [W] * 20
