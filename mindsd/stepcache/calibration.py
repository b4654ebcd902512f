"""Which steps to compute: the best plan for every count of them, from plain runs alone.

A plain run shows what every forecast would have been, and how far off. What a wrong forecast does
to the picture is its relative error times the share that the solver takes from it (course.py);
errors of forecasts in a row add up, those of different runs add as squares. The plan with the least
sum is found by dynamic programming over the last two computed steps:

    step      p ... a . . . b      forecasts between a and b follow the slope from p to a:
                                   cost[n, a, b] = min over p (cost[n - 1, p, a] + run[p, a, b])
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mindsd.stepcache.course import Course
from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.plan import Kind, StepCache
from mindsd.stepcache.schedule import Noise, first_index, noises
from mindsd.wrap import wrap

FARTHEST = 12  # steps between two that are computed


class Calibration:
    """Listens to plain runs of a diffusers scheduler; a context manager.

    Attributes:
        noises: of the steps, from the first on.
        values: what of the outputs would be forecast, [images, ...] at each step.
    """

    def __init__(self, scheduler: Any):
        self.scheduler = scheduler
        self.noises: list[Noise] = []
        self.values: list[list[Tensor]] = []
        self._course = Course.of(scheduler)
        self._calls = 0

    def __enter__(self) -> Calibration:
        self._wraps = [
            wrap(self.scheduler, "set_timesteps", self._begin),
            wrap(self.scheduler, "step", self._listen),
        ]
        return self

    def __exit__(self, *exc: object) -> None:
        for own in reversed(self._wraps):
            own.remove()

    def plans(self) -> dict[int, StepCache]:
        """The best plan for every count of computed steps."""
        steps = len(self.values)
        values = [torch.cat(parts) for parts in self.values]
        masks = best_masks(values, self.noises, self._course)
        return {
            count: StepCache(
                mask=tuple(Kind.WHOLE if step in mask else Kind.SKIPPED for step in range(steps)),
                least=min(steps, StepCache.least),
            )
            for count, mask in masks.items()
        }

    def _begin(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self._calls, self.noises = 0, []
        return result

    def _listen(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the scheduler is given, read before it works on it."""
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        output, timestep, sample = (given[name] for name in ("model_output", "timestep", "sample"))
        order = int(getattr(self.scheduler, "order", 1))
        if not self.noises:
            times = torch.as_tensor(self.scheduler.timesteps).tolist()
            first = first_index(self.scheduler, times, timestep)
            self.noises = noises(self.scheduler, times)[first::order]
        step, stage = divmod(self._calls, order)
        self._calls += 1
        if stage == 0:
            if step == len(self.values):
                self.values.append([])
            scale = getattr(self.scheduler, "scale_model_input", None)  # flows have none
            latents = sample if scale is None else scale(sample, timestep)
            value = self._course.value(self.noises[step], latents.float(), output.float())
            self.values[step].append(value.cpu())
        return original(*args, **kwargs)


def best_masks(
    values: list[Tensor], along: list[Noise], course: Course
) -> dict[int, frozenset[int]]:
    """The steps to compute, for every count of them that is possible.

    Args:
        values: that are forecast, [images, ...] at each step of a plain run.
        along: the noise at each step.
        course: how the values go on.
    """
    last = len(values) - 1
    runs = _Runs(values, along, course)
    # The least cost of computing n steps of which p and a are the last, and those before p.
    costs: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {(-1, 0): (0.0, (0,))}
    best: dict[int, frozenset[int]] = {}
    for count in range(2, last + 2):
        following: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
        for (before, anchor), (cost, path) in costs.items():
            for after in range(anchor + 1, min(anchor + FARTHEST, last) + 1):
                total = cost + runs.cost(before, anchor, after)
                if total < following.get((anchor, after), (math.inf, ()))[0]:
                    following[anchor, after] = total, (*path, after)
        costs = following
        ends = [found for (_, end), found in costs.items() if end == last]
        if ends:
            best[count] = frozenset(min(ends)[1])
    return best


class _Runs:
    """What forecasts in a row cost."""

    def __init__(self, values: list[Tensor], along: list[Noise], course: Course):
        self._values, self._at = values, [course.at(noise) for noise in along]
        ends = zip(along, [*along[1:], None], strict=True)
        self._shares = [course.share(here, there) for here, there in ends]
        self._sizes = [_mean(own) for own in values]
        self._errors: dict[tuple[int, int, int], float] = {}

    def cost(self, before: int, anchor: int, after: int) -> float:
        """Of those between two computed steps; `before` is the computed one before (-1: none)."""
        return sum(self._error(before, anchor, step) for step in range(anchor + 1, after)) ** 2

    def _error(self, before: int, anchor: int, step: int) -> float:
        key = (before, anchor, step)
        if key not in self._errors:
            last = Anchor(self._values[anchor], self._at[anchor])
            if before >= 0:
                first = Anchor(self._values[before], self._at[before])
                last = first.next(last.value, last.at)
            off = _mean(self._values[step] - last.forecast(self._at[step])) / self._sizes[step]
            self._errors[key] = float(off.mean()) * self._shares[step]
        return self._errors[key]


def _mean(values: Tensor) -> Tensor:
    """Mean magnitude of each image, [images]."""
    return values.abs().flatten(1).mean(1)
