"""What a step cache is asked, and the plan that it makes."""

import pytest

from mindsd.errors import RequestError
from mindsd.stepcache.plan import Kind, StepCache

W, S = Kind.WHOLE, Kind.SHALLOW
TEXTS = [
    "interval:3",
    "skip:2",
    "adaptive:0.08",
    "plan:1011",
    "interval:2,order=1,first=3,last=2,least=1",
    "adaptive:0.1,most=2",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read_and_written(text):
    assert str(StepCache.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    " interval interval:x interval:0 adaptive:-1 adaptive:nan plan: plan:12 taylor:3 "
    "interval:2,order=2 interval:2,first=0 interval:2,bold=1 interval:2,most".split(" "),
)
def test_what_cannot_be_a_plan(text):
    with pytest.raises(RequestError):
        StepCache.parse(text)


def test_every_so_many_steps_run_whole_and_the_ends_always():
    assert StepCache(interval=3).fixed(13) == [W, S, S, W, S, S, W, S, S, W, S, S, W]
    assert StepCache(interval=3, first=2).fixed(13) == [W, W, S, S, W, S, S, W, S, S, W, S, W]
    assert StepCache(interval=1).fixed(12) == [W] * 12


def test_a_mask_is_stretched():
    plan = StepCache(mask=(True, False, False, True), least=1)
    assert plan.fixed(4) == [W, S, S, W]
    assert plan.fixed(8) == [W, W, S, S, S, S, W, W]


def test_few_steps_are_not_cached():
    assert StepCache(interval=2).fixed(11) == [W] * 11
    assert StepCache(interval=2).fixed(12) != [W] * 12


def test_an_adaptive_plan_is_not_known_beforehand():
    assert StepCache(threshold=0.1).fixed(20) is None
    assert StepCache(threshold=0.0).fixed(20) == [W] * 20
