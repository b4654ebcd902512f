"""Which steps run whole: the options of a step cache and the plan they make for one trajectory.

    WHOLE    the denoiser as it is; what it computed is kept
    SHALLOW  only its first and last layers; the deep part is forecast
    SKIPPED  nothing runs; the output itself is forecast

A fixed plan is known before the first step, so nothing waits for the device. The others decide for
every row of a batch on its own: adaptive looks at how far a cheap feature has moved since the last
whole step; a tolerance looks, at whole steps only, at how far off the forecast would have been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any

from mindsd.errors import RequestError
from mindsd.stepcache.speeds import DIFFUSIONS, FLOWS

UNEVEN = 2.0  # times as far apart as the nearest two: steps that are laid on a curve
SETTINGS = ("order", "first", "last", "most", "least", "timed")


class Kind(Enum):
    WHOLE = "whole"
    SHALLOW = "shallow"
    SKIPPED = "skipped"


SIGNS = {"1": Kind.WHOLE, "0": Kind.SHALLOW, "-": Kind.SKIPPED}
WAYS = {"interval": Kind.SHALLOW, "skip": Kind.SKIPPED}  # what the steps between are


@dataclass(frozen=True)
class StepCache:
    """How one request caches between steps. Exactly one of the first five is set.

    Attributes:
        interval: every so many steps run whole (Ma et al., DeepCache, arXiv:2312.00858); 1 is none.
        threshold: run whole once the accumulated relative change of a cheap feature reaches it (as
            in TeaCache, arXiv:2411.19108, and first-block caching); 0 is none. Shallow between.
        tolerance: skip while the forecast's expected relative error stays below it, as solvers with
            an embedded error estimate choose their steps; 0 is none.
        mask: every step's kind, from a calibration. With another count of steps about as many run
            whole, at the same shares of the way: the distance between them makes the error.
        speed: a mask by name, the one for the kind of model that it turns out to be (`settled`).
        between: what the steps between those of an interval are.
        order: 0 reuses the last value, 1 forecasts along the last slope (arXiv:2503.06923).
        first, last: so many steps at the ends always run whole.
        most: steps in a row that may be forecast, with a threshold or a tolerance.
        least: with fewer steps than this nothing is cached: they differ too much.
        timed: 1 where a mask goes by the time that steps stand for, so that it is computed at the
            same noise however they are spaced (Karras); 0 where it goes by their number.
    """

    interval: int | None = None
    threshold: float | None = None
    tolerance: float | None = None
    mask: tuple[Kind, ...] | None = None
    speed: str | None = None
    between: Kind = Kind.SHALLOW
    order: int = 1
    first: int = 1
    last: int = 1
    most: int = 4
    least: int = 12
    timed: int = 0

    def __post_init__(self) -> None:
        ways = (self.interval, self.threshold, self.tolerance, self.mask, self.speed)
        if sum(way is not None for way in ways) != 1:
            raise RequestError(
                "a step cache needs one of: an interval, a threshold, a tolerance, a mask, a speed"
            )
        if self.interval is not None and self.interval < 1:
            raise RequestError(
                f"the interval between whole steps is at least 1, got {self.interval}"
            )
        for name in ("threshold", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise RequestError(f"the {name} is a number from 0 up, got {value}")
        if self.tolerance and self.order == 0:
            raise RequestError(
                "a tolerance needs order 1: it measures how far a slope leads astray"
            )
        if self.mask is not None and not self.mask:
            raise RequestError("the mask of whole steps is empty")
        if self.speed is not None and self.speed not in DIFFUSIONS:
            raise RequestError(f"unknown speed {self.speed!r}; choose {', '.join(DIFFUSIONS)}")
        if self.timed not in (0, 1) or (self.timed and self.mask is None):
            raise RequestError(f"timed is 1 or 0, and only of a plan; got {self}")
        numbers = [(self.first, 1), (self.last, 0), (self.most, 1), (self.least, 1)]
        if any(value < low for value, low in numbers) or self.order not in (0, 1):
            raise RequestError(
                "a step cache has first, most and least from 1, last from 0, order 0 or 1; "
                f"got {self}"
            )

    @classmethod
    def parse(cls, text: str) -> StepCache:
        """From "interval:3" (shallow between), "skip:2" (skipped between), "adaptive:0.08",
        "tolerance:0.02", "plan:10-1" (1 whole, 0 shallow, - skipped) or "speed:balanced".

        Settings may follow: "adaptive:0.08,order=0,most=3".

        Raises:
            RequestError: it is none of these.
        """
        head, *settings = text.split(",")
        name, _, value = head.partition(":")
        try:
            more: dict[str, Any] = {
                key: int(number) for key, number in (own.split("=") for own in settings)
            }
            if not set(more) <= set(SETTINGS):
                raise ValueError
            if name == "plan":
                return cls(mask=_mask(value), **more)
            if name == "speed":
                return cls(speed=value, **more)
            if name == "adaptive":
                return cls(threshold=float(value), **more)
            if name == "tolerance":
                return cls(tolerance=float(value), **more)
            return cls(interval=int(value), between=WAYS[name], **more)
        except (ValueError, KeyError) as error:
            if isinstance(error, RequestError):
                raise
        raise RequestError(
            f"step cache {text!r} is none of interval:N, skip:N, adaptive:X, tolerance:X, "
            "plan:10-1..., speed:NAME, with settings like order=0 after a comma "
            f"({', '.join(SETTINGS)})"
        )

    def __str__(self) -> str:
        """The text that `parse` reads."""
        if self.interval is not None:
            head = f"{'skip' if self.between is Kind.SKIPPED else 'interval'}:{self.interval}"
        elif self.threshold is not None:
            head = f"adaptive:{self.threshold:g}"
        elif self.tolerance is not None:
            head = f"tolerance:{self.tolerance:g}"
        elif self.speed is not None:
            head = f"speed:{self.speed}"
        else:
            signs = {kind: sign for sign, kind in SIGNS.items()}
            head = "plan:" + "".join(signs[kind] for kind in self.mask or ())
        changed = [name for name in SETTINGS if getattr(self, name) != getattr(StepCache, name)]
        return ",".join([head, *(f"{name}={getattr(self, name)}" for name in changed)])

    def settled(self, *, flow: bool) -> StepCache:
        """A speed's plan for a flow or for another kind of model; any other cache as it is."""
        if self.speed is None:
            return self
        plans = FLOWS if flow else DIFFUSIONS
        return replace(self, speed=None, mask=_mask(plans[self.speed]), timed=int(not flow))

    @property
    def uses(self) -> frozenset[Kind]:
        """The kinds of steps that it may ask for."""
        if self.mask is not None:
            return frozenset(self.mask)
        if self.tolerance is not None or self.speed is not None:
            return frozenset({Kind.WHOLE, Kind.SKIPPED})
        return frozenset({Kind.WHOLE, self.between})

    def fixed(self, steps: int, times: Sequence[float] = ()) -> list[Kind] | None:
        """The kind of each of `steps` steps, or None when it is decided as they come.

        A speed has to be settled first.

        Args:
            times: that the steps stand for, falling; evenly spaced where they are left out.
        """
        if steps < self.least or 0 in (self.threshold, self.tolerance):
            return [Kind.WHOLE] * steps
        if self.threshold is not None or self.tolerance is not None:
            return None
        if self.mask is None:
            return [self._fixed(step, steps) for step in range(steps)]
        shares = _shares(times) if self.timed and times else None
        kinds = _masked(self.mask, shares or [step / max(steps - 1, 1) for step in range(steps)])
        ends = [self.at_an_end(step, steps) for step in range(steps)]
        return [Kind.WHOLE if end else kind for end, kind in zip(ends, kinds, strict=True)]

    def at_an_end(self, step: int, steps: int) -> bool:
        return step < self.first or step >= steps - self.last

    def _fixed(self, step: int, steps: int) -> Kind:
        if self.at_an_end(step, steps):
            return Kind.WHOLE
        assert self.interval is not None
        whole = (step - self.first + 1) % self.interval == 0  # the first ones' last counts
        return Kind.WHOLE if whole else self.between


def _masked(mask: tuple[Kind, ...], shares: Sequence[float]) -> list[Kind]:
    """The kinds of steps at these shares of the way, rising from 0 to 1: of each step of the mask
    that is whole the nearest is, and the others are as the mask goes on behind them."""
    last = max(len(mask) - 1, 1)
    places = range(len(shares))
    whole = {
        min(places, key=lambda step: (round(abs(shares[step] - place / last), 6), -step))
        for place, kind in enumerate(mask)
        if kind is Kind.WHOLE
    }
    kinds = []
    for step, share in enumerate(shares):
        behind = (*mask[int(share * last + 1e-9) :], *reversed(mask))
        others = (kind for kind in behind if kind is not Kind.WHOLE)
        kinds.append(Kind.WHOLE if step in whole else next(others, Kind.WHOLE))
    return kinds


def _shares(times: Sequence[float]) -> list[float] | None:
    """How far on their way steps are that stand for these times; None where they lie evenly.

    Even steps that begin at a time t end one step before 0, so their last is not quite at the end.
    """
    gaps = [before - after for before, after in pairwise(times)]
    if not gaps or max(gaps) < UNEVEN * min(gaps):
        return None
    end = times[0] * len(gaps) / len(times)
    return [(times[0] - time) / end for time in times]


def _mask(signs: str) -> tuple[Kind, ...]:
    return tuple(SIGNS[sign] for sign in signs)
