"""An acceleration is checked when it is made, and written and read without loss."""

import json

import pytest

from mindsd.config import PLAIN, SPEEDS, Acceleration, speed_named
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


@pytest.mark.parametrize("until", [0, -1, 1.5, float("nan"), True, "half"])
def test_a_share_of_the_steps_is_checked(until):
    with pytest.raises(RequestError, match="guidance_until must be"):
        Acceleration(guidance_until=until)


def test_unknown_fields_are_refused():
    with pytest.raises(RequestError, match="not 'warp'"):
        Acceleration.from_json({"warp": 9})
