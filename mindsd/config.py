"""What makes a model fast: one frozen value that every face fills in and every request carries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mindsd.errors import RequestError
from mindsd.stepcache.plan import StepCache
from mindsd.stepcache.speeds import DIFFUSIONS
from mindsd.tokenmerge.plan import TokenMerge


@dataclass(frozen=True)
class Acceleration:
    """How one image is drawn with less work. The default changes nothing.

    Attributes:
        step_cache: which steps run whole, and what stands for the others.
        token_merge: how many tokens self-attention sees.
        guidance_until: share of the steps, above 0 to 1, that classifier-free guidance lasts; after
            it the unconditional branch is not computed any more.
    """

    step_cache: StepCache | None = None
    token_merge: TokenMerge | None = None
    guidance_until: float = 1.0

    def __post_init__(self) -> None:
        until = self.guidance_until
        if (
            isinstance(until, bool)
            or not isinstance(until, int | float)
            or not math.isfinite(until)
        ):
            raise RequestError(f"guidance_until must be a number, got {until!r}")
        if not 0 < until <= 1:
            raise RequestError(f"guidance_until must be above 0 up to 1, got {until:g}")

    @property
    def is_plain(self) -> bool:
        """Whether nothing is left out."""
        return self == PLAIN

    def settled(self, *, flow: bool) -> Acceleration:
        """With the plan that a speed means for a flow, or for another kind of model."""
        cache = self.step_cache
        return self if cache is None else replace(self, step_cache=cache.settled(flow=flow))

    def as_json(self) -> dict[str, str | float]:
        """The fields that differ from plain, as texts and numbers."""
        told: dict[str, str | float] = {}
        if self.step_cache is not None:
            told["step_cache"] = str(self.step_cache)
        if self.token_merge is not None:
            told["token_merge"] = str(self.token_merge)
        if self.guidance_until != 1:
            told["guidance_until"] = self.guidance_until
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Acceleration:
        """What `as_json` said.

        Raises:
            RequestError: there is an unknown field, or a value is wrong.
        """
        if strange := sorted(set(told) - set(FIELDS)):
            raise RequestError(f"an acceleration has {', '.join(FIELDS)}, not {strange[0]!r}")
        cache, merge = told.get("step_cache"), told.get("token_merge")
        return cls(
            None if cache is None else StepCache.parse(str(cache)),
            None if merge is None else TokenMerge.parse(str(merge)),
            told.get("guidance_until", 1.0),
        )


PLAIN = Acceleration()
FIELDS = ("step_cache", "token_merge", "guidance_until")
# What a speed by name means, until a profile tuned for the model says better: a plan
# that is known once the model's kind is (`settled`).
SPEEDS = {"lossless": PLAIN} | {name: Acceleration(StepCache(speed=name)) for name in DIFFUSIONS}


def speed_named(name: str | None) -> Acceleration:
    """The acceleration that a speed's name stands for.

    Raises:
        RequestError: there is no such speed.
    """
    if name is None or name not in SPEEDS:
        raise RequestError(f"unknown speed {name!r}; choose {', '.join(SPEEDS)}")
    return SPEEDS[name]


def name_of(acceleration: Acceleration) -> str | None:
    """The speed that an acceleration is, settled or not; None for one of its own."""
    for name, own in SPEEDS.items():
        if acceleration in (own, own.settled(flow=False), own.settled(flow=True)):
            return name
    return None
