"""An acceleration is checked when it is made, and written and read without loss."""

import json

import pytest

from mindsd.config import PLAIN, SPEEDS, Acceleration, name_of, speed_named
from mindsd.errors import RequestError
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge

OWN = Acceleration(StepCache.parse("adaptive:0.08,most=2"), TokenMerge(0.4), 0.6)


@pytest.mark.parametrize("acceleration", [*SPEEDS.values(), OWN], ids=[*SPEEDS, "own"])
def test_it_is_written_and_read(acceleration):
    assert Acceleration.from_json(json.loads(json.dumps(acceleration.as_json()))) == acceleration


def test_a_default_leaves_nothing_out():
    assert PLAIN.is_plain and PLAIN.as_json() == {} and not OWN.is_plain
    assert speed_named("lossless") is PLAIN


@pytest.mark.parametrize("flow", [False, True])
def test_a_speed_is_one_plan_for_flows_and_another_for_the_rest(flow):
    settled = {name: own.settled(flow=flow) for name, own in SPEEDS.items()}
    assert {name: name_of(own) for name, own in settled.items()} == {name: name for name in SPEEDS}
    assert settled["lossless"] is PLAIN and OWN.settled(flow=flow) == OWN
    for name in ("quality", "balanced", "fast"):
        told = settled[name].as_json()
        assert str(told["step_cache"]).startswith("plan:11" if not flow else "plan:1-")
        assert Acceleration.from_json(told).settled(flow=not flow) == settled[name]


def test_what_is_no_speed_has_no_name():
    assert name_of(OWN) is None
    assert name_of(Acceleration(SPEEDS["fast"].step_cache, guidance_until=0.5)) is None


@pytest.mark.parametrize("until", [0, -1, 1.5, float("nan"), True, "half"])
def test_a_share_of_the_steps_is_checked(until):
    with pytest.raises(RequestError, match="guidance_until must be"):
        Acceleration(guidance_until=until)


def test_unknown_fields_are_refused():
    with pytest.raises(RequestError, match="not 'warp'"):
        Acceleration.from_json({"warp": 9})
