"""How every job begins: its pictures are read on a pool, then it is submitted on a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Executor
from typing import Protocol

from mindsd.pipelines.resident import Resident
from mindsd.request import Request

from .job import Job, Told
from .service import Service
from .threads import on_thread


class Task(Protocol):
    """What a job asks of the engine; both run on threads."""

    @property
    def readers(self) -> Executor | None:
        """The pool that its pictures are read on; None where it has none."""
        ...

    def decode(self) -> None:
        """Read the pictures."""
        ...

    def submit(self, resident: Resident) -> Iterable[Request]:
        """The engine's requests, one by one."""
        ...


async def begin(service: Service, job: Job, task: Task) -> AsyncIterator[Told]:
    """The events of a job that begins, from the first.

    Raises:
        Refusal: a picture cannot be taken, or the job was cancelled while they were read.
    """
    if task.readers is not None:
        await on_thread(task.readers, task.decode)
    job.check()
    told = job.follow()
    service.start(job, task.submit)
    return told
