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
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mindsd.errors import RequestError

SETTINGS = ("order", "first", "last", "most", "least")


class Kind(Enum):
    WHOLE = "whole"
    SHALLOW = "shallow"
    SKIPPED = "skipped"


SIGNS = {"1": Kind.WHOLE, "0": Kind.SHALLOW, "-": Kind.SKIPPED}
WAYS = {"interval": Kind.SHALLOW, "skip": Kind.SKIPPED}  # what the steps between are


@dataclass(frozen=True)
class StepCache:
    """How one request caches between steps. Exactly one of the first four is set.

    Attributes:
        interval: every so many steps run whole (Ma et al., DeepCache, arXiv:2312.00858); 1 is none.
        threshold: run whole once the accumulated relative change of a cheap feature reaches it (as
            in TeaCache, arXiv:2411.19108, and first-block caching); 0 is none. Shallow between.
        tolerance: skip while the forecast's expected relative error stays below it, as solvers with
            an embedded error estimate choose their steps; 0 is none.
        mask: every step's kind, from a calibration. With another count of steps about as many run
            whole, at the same shares of the way: the distance between them makes the error.
        between: what the steps between those of an interval are.
        order: 0 reuses the last value, 1 forecasts along the last slope (arXiv:2503.06923).
        first, last: so many steps at the ends always run whole.
        most: steps in a row that may be forecast, with a threshold or a tolerance.
        least: with fewer steps than this nothing is cached: they differ too much.
    """

    interval: int | None = None
    threshold: float | None = None
    tolerance: float | None = None
    mask: tuple[Kind, ...] | None = None
    between: Kind = Kind.SHALLOW
    order: int = 1
    first: int = 1
    last: int = 1
    most: int = 4
    least: int = 12

    def __post_init__(self) -> None:
        ways = (self.interval, self.threshold, self.tolerance, self.mask)
        if sum(way is not None for way in ways) != 1:
            raise RequestError(
                "a step cache needs one of: an interval, a threshold, a tolerance, a mask"
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
        numbers = [(self.first, 1), (self.last, 0), (self.most, 1), (self.least, 1)]
        if any(value < low for value, low in numbers) or self.order not in (0, 1):
            raise RequestError(
                "a step cache has first, most and least from 1, last from 0, order 0 or 1; "
                f"got {self}"
            )

    @classmethod
    def parse(cls, text: str) -> StepCache:
        """From "interval:3" (shallow between), "skip:2" (skipped between), "adaptive:0.08",
        "tolerance:0.02" or "plan:10-1" (1 whole, 0 shallow, - skipped).

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
                return cls(mask=tuple(SIGNS[sign] for sign in value), **more)
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
            f"plan:10-1..., with settings like order=0 after a comma ({', '.join(SETTINGS)})"
        )

    def __str__(self) -> str:
        """The text that `parse` reads."""
        if self.interval is not None:
            head = f"{'skip' if self.between is Kind.SKIPPED else 'interval'}:{self.interval}"
        elif self.threshold is not None:
            head = f"adaptive:{self.threshold:g}"
        elif self.tolerance is not None:
            head = f"tolerance:{self.tolerance:g}"
        else:
            signs = {kind: sign for sign, kind in SIGNS.items()}
            head = "plan:" + "".join(signs[kind] for kind in self.mask or ())
        changed = [name for name in SETTINGS if getattr(self, name) != getattr(StepCache, name)]
        return ",".join([head, *(f"{name}={getattr(self, name)}" for name in changed)])

    @property
    def uses(self) -> frozenset[Kind]:
        """The kinds of steps that it may ask for."""
        if self.mask is not None:
            return frozenset(self.mask)
        if self.tolerance is not None:
            return frozenset({Kind.WHOLE, Kind.SKIPPED})
        return frozenset({Kind.WHOLE, self.between})

    def fixed(self, steps: int) -> list[Kind] | None:
        """The kind of each of `steps` steps, or None when it is decided as they come."""
        if steps < self.least or 0 in (self.threshold, self.tolerance):
            return [Kind.WHOLE] * steps
        if self.threshold is not None or self.tolerance is not None:
            return None
        return [self._fixed(step, steps) for step in range(steps)]

    def at_an_end(self, step: int, steps: int) -> bool:
        return step < self.first or step >= steps - self.last

    def _fixed(self, step: int, steps: int) -> Kind:
        if self.at_an_end(step, steps):
            return Kind.WHOLE
        if self.mask is not None:
            return self._masked(self.mask, step, steps)
        assert self.interval is not None
        whole = (step - self.first + 1) % self.interval == 0  # the first ones' last counts
        return Kind.WHOLE if whole else self.between

    @staticmethod
    def _masked(mask: tuple[Kind, ...], step: int, steps: int) -> Kind:
        """The kind of a step that is as far on its way as a step of the mask."""
        last = len(mask) - 1
        whole = (place for place, kind in enumerate(mask) if kind is Kind.WHOLE)
        if any(round(place * (steps - 1) / max(last, 1)) == step for place in whole):
            return Kind.WHOLE
        behind = mask[step * last // (steps - 1) :]
        others = (kind for kind in (*behind, *reversed(mask)) if kind is not Kind.WHOLE)
        return next(others, Kind.WHOLE)
