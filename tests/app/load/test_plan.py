"""Users come at random, the same ones for the same seed."""

from __future__ import annotations

import pytest

from mindsd.app.load.plan import LoadPlan, Targets, arrivals
from mindsd.errors import RequestError


def test_they_come_at_the_rate_and_in_the_shares_asked_for():
    coming = arrivals(LoadPlan(seconds=1000, rate=5, images=0.2, seed=3))
    assert 4700 < len(coming) < 5300  # 5000, give or take 4 standard deviations
    images = sum(own.kind == "image" for own in coming) / len(coming)
    assert 0.17 < images < 0.23
    gaps = [b.at - a.at for a, b in zip(coming, coming[1:], strict=False)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread / mean == pytest.approx(1, abs=0.06)  # of an exponential distribution


def test_the_same_seed_gives_the_same_load():
    plan = LoadPlan(seconds=20, rate=3)
    assert arrivals(plan) == arrivals(plan)
    assert arrivals(plan) != arrivals(LoadPlan(seconds=20, rate=3, seed=1))


def test_what_they_post_is_what_the_plan_says():
    plan = LoadPlan(seconds=50, rate=2, images=0.5, steps=7, size="64x64", max_tokens=9)
    for own in arrivals(plan):
        if own.kind == "image":
            assert own.path == "/v1/images/generations"
            assert (own.body["steps"], own.body["size"]) == (7, "64x64")
        else:
            assert own.path == "/v1/chat/completions"
            assert own.body["max_tokens"] == 9 and own.body["stream"]


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"seconds": -1}, {"images": 1.1}, {"max_tokens": 0}, {"most": 0}]
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(RequestError):
        LoadPlan(**wrong)
    with pytest.raises(RequestError, match="first_token"):
        Targets(first_token=float("nan"))
