"""Where a request stands on its way from noise to image, read off its own scheduler.

Time steps are no key: Heun and PNDM visit one twice, image-to-image starts late. What can be
counted are the scheduler's own steps: between two of them a denoiser is called once, or once for
each guidance branch.

    call call step | call call step | ...        two branches, called one after the other
    stage 0          stage 1          ...        a solver of order 2
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

from mindsd.config import Acceleration
from mindsd.stepcache.cell import DeepCell, OutputCell
from mindsd.stepcache.course import Course, flows
from mindsd.stepcache.guidance import Guidance
from mindsd.stepcache.plan import Kind, StepCache
from mindsd.stepcache.schedule import Noise, first_index, noises
from mindsd.wrap import Wrap, wrap


@dataclass(frozen=True)
class Position:
    """One call of a denoiser: of which trajectory, at which solver call, for which branch.

    Attributes:
        index: of the solver call.
        noise: how noisy the latents are.
        rows: numbers of the call's rows among all that the branch has, where some were left out.
    """

    trajectory: Trajectory
    module: int
    branch: int
    index: int
    noise: Noise
    rows: tuple[int, ...] | None = None

    @property
    def group(self) -> Any:
        """What must be equal among the calls of a forward."""
        return self.trajectory.acceleration.token_merge

    @property
    def step(self) -> int:
        return self.index // self.trajectory.order

    @property
    def stage(self) -> int:
        """Which of its step's solver calls it is."""
        return self.index % self.trajectory.order

    @property
    def planned(self) -> Kind | None:
        """The step's kind where the plan knows it beforehand."""
        kinds = self.trajectory.kinds
        return None if kinds is None else kinds[self.step]

    @property
    def at_an_end(self) -> bool:
        cache = self.trajectory.step_cache
        return cache is None or cache.at_an_end(self.step, self.trajectory.steps)

    def row(self, place: int) -> int:
        """The number of the call's row at a place."""
        return place if self.rows is None else self.rows[place]

    def cell(self, place: int) -> tuple[int, ...]:
        """The key of that row's cells."""
        return (self.module, self.branch, self.row(place), self.stage)

    def keep(self, place: int, cell: DeepCell) -> None:
        self.trajectory.cells[self.cell(place)] = cell


@dataclass(eq=False)
class Trajectory:
    """Follows one scheduler; owns all that is kept between its steps.

    Attributes:
        acceleration: settled for the scheduler's kind of model.
        guidance: how the pipeline calls its denoiser under guidance; None where it is not known.
        seed: of what token merging draws at random.
        calls: solver calls from the first to the last.
        expected_images: how many rows the scheduler will work on, where it is known; else 0.
        images: how many it does.
        course: how the denoiser's outputs go on.
        cells, outputs: what is kept, by module, branch, row and stage.
        kinds: the plan, a kind for each step; None when it is decided as they come.
        noises: how noisy the latents are at each solver call.
        branches: results of the present solver call's branches, by module.
        skipped: which rows of their first branch were skipped, by module.
        rows: how many rows a branch had, by module and branch.
        differences: conditional minus unconditional noise, by module, stage and row.
        spared: rows that were not computed.
        merges: token merging's plans, by module, resolution and image.
    """

    scheduler: Any
    acceleration: Acceleration
    guidance: Guidance | None = None
    seed: int = 0
    expected_images: int = 0
    calls: int = 0
    images: int = 0
    course: Course = Course()
    cells: dict[tuple[int, ...], DeepCell] = field(default_factory=dict)
    outputs: dict[tuple[int, ...], OutputCell] = field(default_factory=dict)
    kinds: list[Kind] | None = None
    noises: list[Noise] = field(default_factory=list)
    branches: dict[int, list[Any]] = field(default_factory=dict)
    skipped: dict[int, frozenset[int]] = field(default_factory=dict)
    rows: dict[tuple[int, int], int] = field(default_factory=dict)
    differences: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict)
    merges: dict[tuple[int, ...], Any] = field(default_factory=dict)
    spared: int = 0
    _started: bool = False
    _done: int = 0
    _wraps: list[Wrap] = field(default_factory=list)
    _signature: inspect.Signature = field(init=False)

    def __post_init__(self) -> None:
        self.acceleration = self.acceleration.settled(flow=flows(self.scheduler))
        self.images = self.expected_images
        self._signature = inspect.signature(self.scheduler.step)
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
        if not self._started:
            self._start(timestep)
        branch = len(self.branches.setdefault(module, []))
        index = min(self._done, self.calls - 1)
        return Position(self, module, branch, index, self.noises[index])

    def _begin(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self._forget()
        return result

    def _forget(self) -> None:
        self._started, self._done, self.images = False, 0, self.expected_images
        self.branches.clear()
        self.skipped.clear()
        self.rows.clear()
        self.drop()

    def drop(self) -> None:
        """What was kept stands for nothing any more: from here on it is learned anew."""
        for kept in (self.cells, self.outputs, self.differences, self.merges):
            kept.clear()

    def has_rows(self, module: int, branch: int, rows: int) -> None:
        """A call brings so many rows; where it brought others, a row's number means another."""
        if self.rows.setdefault((module, branch), rows) != rows:
            self.drop()
            self.rows[module, branch] = rows

    def _start(self, timestep: Any) -> None:
        times = torch.as_tensor(self.scheduler.timesteps).tolist()
        first = first_index(self.scheduler, times, timestep)
        self.noises = noises(self.scheduler, times)[first:]
        self.course = Course.of(self.scheduler)
        self.calls, self._started = len(self.noises), True
        cache, times = self.step_cache, times[first :: self.order]
        self.kinds = None if cache is None else cache.fixed(self.steps, times)

    def _advance(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        sample = self._signature.bind(*args, **kwargs).arguments.get("sample")
        self.images = len(sample) if isinstance(sample, torch.Tensor) else 1
        self._done += 1
        self.branches.clear()
        self.skipped.clear()
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
