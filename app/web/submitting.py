"""Beginning a job that belongs to the server: nobody's leaving ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..server.beginning import Task, begin
from ..server.job import Job, Told
from ..server.service import Service


async def submit(
    service: Service, kind: str, model: str, requests: int, task: Task
) -> tuple[Job, AsyncIterator[Told]]:
    """A job that has begun, and its events from the first.

    Raises:
        Refusal: the service takes no more, or a picture cannot be read.
    """
    job = service.open(kind, model, requests)
    try:
        return job, await begin(service, job, task)
    except BaseException as error:
        job.leave(error)
        raise
