"""Every knob's values are ones that an acceleration can have, in a fixed order."""

import pytest

from mindsd.config import PLAIN, Acceleration, speed_named
from mindsd.pipelines.bench import ways
from mindsd.pipelines.knobs import BOLDER, KNOBS, Knob, calibrated
from mindsd.pipelines.way import Way
from mindsd.stepcache.plan import Kind, StepCache


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: f"{knob.field} {knob.values[0]}")
def test_each_value_is_read_and_differs(knob):
    turned = [knob.turned(PLAIN, value) for value in knob.values]
    assert len({PLAIN, *turned}) == len(turned) + 1
    assert all(set(own.as_json()) == {knob.field} for own in turned)


def test_turning_leaves_the_other_fields():
    start = Acceleration.from_json({"guidance_until": 0.5, "step_cache": "skip:2"})
    turned = Knob("step_cache", ("interval:3",)).turned(start, "interval:3")
    assert turned.as_json() == {"guidance_until": 0.5, "step_cache": "interval:3"}


def test_bolder_values_come_after_the_present_one():
    knob = Knob("guidance_until", (0.9, 0.8, 0.6))
    assert knob.bolder(PLAIN) == (0.9, 0.8, 0.6)
    assert knob.bolder(Acceleration(guidance_until=0.8)) == (0.6,)
    assert knob.bolder(Acceleration(guidance_until=0.6)) == ()
    assert knob.bolder(Acceleration(guidance_until=0.7)) == (0.9, 0.8, 0.6)


def test_a_way_is_told_in_flags():
    told = Acceleration.from_json({"step_cache": "skip:2", "guidance_until": 0.5})
    assert str(Way(told)) == "--step-cache skip:2 --guidance-until 0.5"
    assert str(Way(speed_named("fast"))) == "--speed fast"
    assert (str(Way()), str(Way(steps=3))) == ("plain", "--steps 3")
    assert Way().is_plain and not Way(steps=3).is_plain


def test_a_bench_compares_with_fewer_steps():
    every = ways(24)
    assert every[0] == Way() and len(set(every)) == len(every)
    assert every[-3:] == [Way(steps=13), Way(steps=10), Way(steps=7)]
    assert ways(50, flow=True)[-3:] == [Way(steps=13), Way(steps=10), Way(steps=8)]
    assert all(way.steps is None for way in ways(6))  # too few for a cache: nothing is left out


def test_calibrated_plans_come_first_from_many_steps_to_few():
    plans = {
        count: StepCache(mask=(Kind.WHOLE,) * count + (Kind.SKIPPED,) * (24 - count))
        for count in range(3, 25)
    }
    first, *others = calibrated(plans)
    counts = [str(value).count("1") for value in first.values]
    assert tuple(others) == KNOBS and counts[0] == 20 and counts[-1] == 3
    assert all(a >= b * BOLDER for a, b in zip(counts, counts[1:], strict=False))
    assert set(first.values) <= {str(plan) for plan in plans.values()}
