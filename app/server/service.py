"""What routes and the page ask: admits jobs, runs them on the hub's models, knows them by id."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from mindsd.pipelines.hub import Hub
from mindsd.pipelines.resident import Resident
from mindsd.request import Event, Request

from .job import Job
from .refusal import DRAINING, TIMED_OUT, Refusal, refusal_of
from .threads import LOADERS, on_thread

log = structlog.get_logger("mindsd.server")

REMEMBERED = 1000  # jobs that have ended
LAST_STEP = 10.0  # seconds that a cancelled job may take for the step it is in


@dataclass(frozen=True)
class ServiceLimits:
    """What is taken on.

    Attributes:
        requests: images and answers that may wait or run at a time; one more is refused by 429.
        seconds: of one job, waiting included; after it the job ends by 504. None for no bound.
    """

    requests: int = 256
    seconds: float | None = 600.0


class Service:
    """All jobs of one server. Used on the event loop alone.

    Attributes:
        draining: no more jobs are taken, those that are taken go on.
        taken: requests that wait or run.
        listeners: told of every event of every job; those of `on_over` of every end, those of
            `on_refused` of every job that was not admitted; those of `on_drained` when nothing
            runs any more and nothing more is taken.
    """

    def __init__(self, hub: Hub, limits: ServiceLimits | None = None) -> None:
        self.hub = hub
        self.limits = limits or ServiceLimits()
        self.draining = False
        self.taken = 0
        self.listeners: list[Callable[[Job, int, Event], None]] = []
        self.on_over: list[Callable[[Job], None]] = []
        self.on_refused: list[Callable[[Refusal], None]] = []
        self.on_drained: list[Callable[[], None]] = []
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def open(
        self, kind: str, model: str, requests: int = 1, *, seconds: float | None = None
    ) -> Job:
        """Admit a job of so many requests, or refuse it; before anything is awaited for it.

        Args:
            seconds: after which it ends; at most those of the limits.

        Raises:
            Refusal: too much waits already (429), or the server is going down (503).
        """
        if (refusal := self._refused(requests)) is not None:
            for listener in self.on_refused:
                listener(refusal)
            raise refusal
        self.taken += requests
        bounds = [bound for bound in (seconds, self.limits.seconds) if bound is not None]
        timer = None
        job = Job(kind, model, on_event=self._tell)
        asked = structlog.contextvars.get_contextvars()  # its end is heard from another thread
        if bounds:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(min(bounds), lambda: job.cancel(replace(TIMED_OUT)))

        def over(job: Job) -> None:
            self.taken -= requests
            if timer is not None:
                timer.cancel()
            if job.error is not None and refusal_of(job.error).status >= 500:
                about = {**asked, "job": job.id, "kind": kind, "model": model}
                log.error("job failed", exc_info=job.error, **about)

        job.on_over += [over, *self.on_over]
        self._remember(job)
        return job

    def start(self, job: Job, submit: Callable[[Resident], Iterable[Request]]) -> None:
        """Load the job's model and submit; `submit` runs on a thread."""
        held: list[Resident] = []

        async def enter() -> None:
            held.append(await self.enter(job.model))

        def left(job: Job) -> None:
            for resident in held:
                self.hub.leave(resident)

        job.on_over.append(left)
        job.start(lambda: submit(held[0]), enter)

    async def enter(self, model: str) -> Resident:
        """`Hub.enter`, where only those wait for a model to load who asked for one that does."""
        loaded = self.hub.enter_loaded(model)
        return loaded or await on_thread(LOADERS, self.hub.enter, model)

    def find(self, id: str) -> Job:
        """The job of this id.

        Raises:
            Refusal: there is none (404).
        """
        if id not in self._jobs:
            raise Refusal(404, "job_not_found", "there is no job of this id, or it is forgotten")
        return self._jobs[id]

    def jobs(self) -> list[Job]:
        """All that are known, the oldest first."""
        return list(self._jobs.values())

    def place(self, job: Job) -> int:
        """How many jobs wait before this one; 0 for one that runs or is over."""
        if job.state != "queued":
            return 0
        waiting = [own for own in self._jobs.values() if own.state == "queued"]
        return waiting.index(job)

    def cancel_all(self) -> None:
        """End every job now: the server is going down."""
        for job in self._jobs.values():
            job.cancel(replace(DRAINING))

    async def drain(self, seconds: float) -> None:
        """Take no more; let what runs end, and cancel what has not after so many seconds."""
        self.draining = True
        live = [job for job in self._jobs.values() if not job.over]
        waits = [asyncio.create_task(job.wait()) for job in live]
        if waits:
            await asyncio.wait(waits, timeout=seconds)
        self.cancel_all()
        if waits:
            await asyncio.wait(waits, timeout=LAST_STEP)
        for listener in self.on_drained:
            listener()

    def _refused(self, requests: int) -> Refusal | None:
        """Why so many more are not admitted; None where they are."""
        if self.draining:
            return replace(DRAINING)
        most = self.limits.requests
        if requests > most:
            return Refusal(400, "too_many", f"{requests} are asked at once; at most {most}", "n")
        if self.taken + requests > most:
            said = f"{self.taken} of {most} places are taken, {requests} are asked"
            return Refusal(429, "queue_full", f"{said}; ask again later", None, 1)
        return None

    def _tell(self, job: Job, place: int, event: Event) -> None:
        for listener in self.listeners:
            listener(job, place, event)

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        ended = [id for id, own in self._jobs.items() if own.over]
        for id in ended[: max(0, len(ended) - REMEMBERED)]:
            del self._jobs[id]
