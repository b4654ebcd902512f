"""Where a request stands on its way from noise to image, read off its own scheduler.

Time steps are no key: Heun and PNDM visit one twice, image-to-image starts late. What can be
counted are the scheduler's own steps: between two of them a denoiser is called once, or once for
each guidance branch.

    call call step | call call step | ...        two branches, called one after the other
    stage 0          stage 1          ...        a solver of order 2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

from mindsd.config import Acceleration
from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.guidance import Guidance
from mindsd.stepcache.plan import Kind, StepCache
from mindsd.wrap import Wrap, wrap


@dataclass
class Cell:
    """What is kept for one row of one branch and stage: its anchors and how long they were used.

    Attributes:
        key: shapes and constants of the call that made it; another key starts afresh.
        deep, output: the deep value and the output.
        form: how the denoiser returns its output.
        feature: the cheap feature of the previous step (adaptive only), a few numbers.
        moved: its accumulated relative change since the last whole step.
        reused: forecasts since then.
    """

    key: Any
    deep: Anchor | None = None
    output: Anchor | None = None
    form: Any = None
    feature: torch.Tensor | None = None
    moved: float = 0.0
    reused: int = 0

    def went(self, kind: Kind, moved: float) -> None:
        """An adaptive step was of this kind, after so much change in all."""
        self.moved, self.reused = (0.0, 0) if kind is Kind.WHOLE else (moved, self.reused + 1)

    def computed_output(self, output: Anchor, form: Any) -> None:
        self.output, self.form = output, form


@dataclass(frozen=True)
class Position:
    """One call of a denoiser: of which trajectory, at which solver call, for which branch.

    Attributes:
        first_row: number of the call's first row among all that the branch has; not 0 where the
            unconditional rows before it were dropped.
        level: share of noise, 0 to 1.
    """

    trajectory: Trajectory
    module: int
    branch: int
    index: int
    level: float
    first_row: int = 0

    @property
    def group(self) -> Any:
        """What must be equal among the calls of a forward."""
        return self.trajectory.acceleration.token_merge

    @property
    def planned(self) -> Kind | None:
        """The step's kind where the plan knows it beforehand."""
        kinds = self.trajectory.kinds
        return None if kinds is None else kinds[self.index // self.trajectory.order]

    @property
    def at_an_end(self) -> bool:
        cache = self.trajectory.step_cache
        return cache is None or cache.at_an_end(
            self.index // self.trajectory.order, self.trajectory.steps
        )

    def cell(self, row: int) -> tuple[int, ...]:
        """The key of the row's cell."""
        stage = self.index % self.trajectory.order
        return (self.module, self.branch, self.first_row + row, stage)

    def keep(self, row: int, cell: Cell) -> None:
        self.trajectory.cells[self.cell(row)] = cell


@dataclass(eq=False)
class Trajectory:
    """Follows one scheduler; owns all that is kept between its steps.

    Attributes:
        guidance: how the pipeline calls its denoiser under guidance; None where it is not known.
        seed: of what token merging draws at random.
        calls: solver calls from the first to the last.
        expected_images: how many rows the scheduler will work on, where it is known; else 0.
        images: how many it does.
        cells: what is kept, by module, branch, row and stage.
        kinds: the plan, a kind for each step; None when it is decided as they come.
        branches: results of the present solver call's branches, by module.
        merges: token merging's plans, by module, resolution and image.
    """

    scheduler: Any
    acceleration: Acceleration
    guidance: Guidance | None = None
    seed: int = 0
    expected_images: int = 0
    calls: int = 0
    images: int = 0
    cells: dict[tuple[int, ...], Cell] = field(default_factory=dict)
    kinds: list[Kind] | None = None
    branches: dict[int, list[Any]] = field(default_factory=dict)
    merges: dict[tuple[int, ...], Any] = field(default_factory=dict)
    _levels: list[float] = field(default_factory=list)
    _first: int | None = None
    _done: int = 0
    _wraps: list[Wrap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = self.expected_images
        self._wraps = [
            wrap(self.scheduler, "set_timesteps", self._begin),
            wrap(self.scheduler, "step", self._advance),
        ]

    @property
    def step_cache(self) -> StepCache | None:
        return self.acceleration.step_cache

    @property
    def order(self) -> int:
        return int(getattr(self.scheduler, "order", 1))

    @property
    def steps(self) -> int:
        return math.ceil(self.calls / self.order)

    @property
    def guided(self) -> bool:
        """Whether the present solver call still has its unconditional branch."""
        until = math.ceil(self.acceleration.guidance_until * self.steps)
        return self._done // self.order < until

    def remove(self) -> None:
        """Let go of the scheduler and of all that was kept."""
        for own in self._wraps:
            own.remove()
        self._forget()

    def position(self, module: int, timestep: Any) -> Position | None:
        """Where the next call of `module` stands; None before any time step is set."""
        times = self.scheduler.timesteps
        if times is None or len(times) == 0:
            return None
        if self._first is None:
            self._start(timestep)
        assert self._first is not None
        branch = len(self.branches.setdefault(module, []))
        index = min(self._done, self.calls - 1)
        return Position(self, module, branch, index, self._levels[self._first + index])

    def _begin(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self._forget()
        return result

    def _forget(self) -> None:
        self._first, self._done, self.images = None, 0, self.expected_images
        self.branches.clear()
        self.cells.clear()
        self.merges.clear()

    def _start(self, timestep: Any) -> None:
        times = torch.as_tensor(self.scheduler.timesteps).tolist()
        self._levels = noise_levels(self.scheduler, times)
        self._first = first_index(self.scheduler, times, timestep)
        self.calls = len(times) - self._first
        self.kinds = None if self.step_cache is None else self.step_cache.fixed(self.steps)

    def _advance(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        sample = args[2] if len(args) > 2 else kwargs.get("sample")
        self.images = len(sample) if isinstance(sample, torch.Tensor) else 1
        self._done += 1
        self.branches.clear()
        return result


_present: ContextVar[Trajectory | None] = ContextVar("trajectory", default=None)


@contextmanager
def following(trajectory: Trajectory) -> Iterator[None]:
    """Denoiser calls made inside belong to `trajectory`, which is let go of at the end."""
    before = _present.set(trajectory)
    try:
        yield
    finally:
        _present.reset(before)
        trajectory.remove()


def present_trajectory() -> Trajectory | None:
    """The one that calls made here belong to."""
    return _present.get()


def first_index(scheduler: Any, times: list[float], timestep: Any) -> int:
    """Which time the first call is made at: image-to-image starts late.

    Schedulers that can be told so know it; for the others the call's own time says it, unless the
    model counts time otherwise than its scheduler (flows often pass 0 to 1).
    """
    known = getattr(scheduler, "begin_index", None)
    if known is not None:
        return int(known)
    time = float(torch.as_tensor(timestep).flatten()[0])
    if time <= 1 < times[0]:
        return 0
    near = [abs(own - time) for own in times]
    return near.index(min(near))


def noise_levels(scheduler: Any, times: list[float]) -> list[float]:
    """The share of noise, 0 to 1, at each time: sigma of a flow, sqrt(1 - alpha) of a diffusion."""
    sigmas = getattr(scheduler, "sigmas", None)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if sigmas is not None and len(sigmas) >= len(times):
        values = [float(s) for s in sigmas[: len(times)]]
        return values if alphas is None else [s / (1 + s * s) ** 0.5 for s in values]
    if alphas is not None:
        last = len(alphas) - 1
        return [float(1 - alphas[min(last, max(0, round(t)))]) ** 0.5 for t in times]
    return [t / max(times[0], 1.0) for t in times]
