"""How far a run is: its images, their steps, the rate, and what it is doing now."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from mindsd.pipelines.parameters import ImageParameters
from mindsd.request import Done, Event, Failed, Started, Step

Stage = Literal["waiting", "encoding", "drawing", "decoding", "ended"]


@dataclass(eq=False)
class Job:
    """One image on its way.

    Attributes:
        number: counted from 1, in the order of the prompts.
        asked: what the user said; None where the model chooses.
        parameters: with every choice made, as they are recorded in the file.
        steps: denoising steps in all; a guess until the first one is done.
    """

    number: int
    asked: ImageParameters
    parameters: ImageParameters
    steps: int
    done: int = 0
    stage: Stage = "waiting"


@dataclass(eq=False)
class Tally:
    """A run of so many `images`; `update` it with the events of their jobs."""

    jobs: list[Job]
    images: int
    written: int = 0
    failed: int = 0
    stopping: bool = False
    begun: float | None = field(default=None, init=False)

    def update(self, job: Job, event: Event) -> None:
        if isinstance(event, Started):
            self.begun = self.begun or time.perf_counter()
            job.stage = "encoding"
        elif isinstance(event, Step):
            job.done, job.steps = event.done, event.total
            job.stage = "decoding" if event.done >= event.total else "drawing"
        elif isinstance(event, Done):
            job.done, job.stage = job.steps, "ended"
        elif isinstance(event, Failed):
            job.steps, job.stage = job.done, "ended"

    @property
    def steps(self) -> int:
        return sum(job.steps for job in self.jobs)

    @property
    def done(self) -> int:
        return sum(job.done for job in self.jobs)

    @property
    def rate(self) -> float:
        """Denoising steps per second, of all images together; 0 before the first."""
        seconds = 0.0 if self.begun is None else time.perf_counter() - self.begun
        return self.done / seconds if seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the last step at this rate; None before the first step."""
        return (self.steps - self.done) / self.rate if self.rate else None

    @property
    def doing(self) -> str:
        """One word for people."""
        if self.stopping:
            return "stopping"
        stages = {job.stage for job in self.jobs}
        at_work = [stage for stage in ("drawing", "decoding", "encoding") if stage in stages]
        return at_work[0] if at_work else "waiting"
