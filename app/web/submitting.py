"""Beginning a job that belongs to the server: nobody's leaving ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from mindsd.pipelines.resident import Resident
from mindsd.request import Request

from ..server.job import Job, Told
from ..server.service import Service
from ..server.threads import on_thread
from ..server.uploads import DECODERS


class Task(Protocol):
    """What image and chat tasks have in common."""

    def decode(self) -> None: ...

    def submit(self, resident: Resident) -> Iterable[Request]: ...


async def submit(
    service: Service, kind: str, model: str, requests: int, task: Task
) -> tuple[Job, AsyncIterator[Told]]:
    """A job that has begun, and its events from the first.

    Raises:
        Refusal: the service takes no more, or a picture cannot be read.
    """
    job = service.open(kind, model, requests)
    try:
        await on_thread(DECODERS, task.decode)
    except BaseException as error:
        job.leave(error)
        raise
    job.check()
    told = job.follow()
    service.start(job, task.submit)
    return job, told
