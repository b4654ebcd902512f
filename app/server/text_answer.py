"""A call for texts is answered: with all of them at once, or by a stream of pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import Request
from fastapi.responses import JSONResponse, Response

from mindsd.errors import MindsdError

from . import sse
from .beginning import begin
from .job import Job, Told
from .model_choice import choose_model
from .refusal import Refusal, refusal_of
from .service import Service
from .text_task import Results, TextTask, usage
from .threads import on_thread
from .watching import begun, watching

log = structlog.get_logger("mindsd.server")

REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"description": "it cannot be done"},
    404: {"description": "there is no such model"},
    413: {"description": "a picture, or the body, is too large"},
    429: {"description": "too much waits already"},
    503: {"description": "the server is going down"},
    504: {"description": "it took too long"},
}


async def answer(client: Request, service: Service, task: TextTask) -> Response:
    """The answers, or why there are none; with the job's id in any case.

    Raises:
        UnknownModel: there is none of this id.
        Refusal: it writes no texts, or the service takes no more.
    """
    body = task.body
    entry = await on_thread(None, choose_model, service.hub, body.model, "text", "vision")
    job = service.open(task.kind, entry.id, task.number, seconds=body.timeout)
    job.on_over.append(lambda job: task.stop())
    try:
        if body.stream:
            told = await begun(client, job, begin(service, job, task))
            return sse.stream(_pieces(job, told, task), job)
        async with watching(client, job):
            await begin(service, job, task)
            results = await job.finished()
        return await on_thread(None, _whole, job, task, results)
    except (Refusal, MindsdError) as error:
        refusal = refusal_of(error)
        return JSONResponse(refusal.body, refusal.status, refusal.headers | {"X-Job-Id": job.id})


def _whole(job: Job, task: TextTask, results: Results) -> Response:
    """All answers in one body; on a thread, as the log-probabilities of some are millions."""
    told = task.told(job, task.form, task.choices(results)) | {"usage": usage(results)}
    return JSONResponse(told, headers={"X-Job-Id": job.id})


async def _pieces(job: Job, told: AsyncIterator[Told], task: TextTask) -> AsyncIterator[bytes]:
    """What happens to a job, to its end; a failure is told in place of what is missing."""
    usual = {"usage": None} if task.body.wants_usage else {}

    def piece(choices: list[dict[str, Any]], more: dict[str, Any] = usual) -> bytes:
        return sse.event(task.told(job, task.piece, choices) | more)

    try:
        for choice in task.begin():
            yield piece([choice])
        async for place, event in told:
            for choice in task.tell(place, event):
                yield piece([choice])
        results = await job.finished()
        if task.body.wants_usage:
            yield piece([], {"usage": usage(results)})
        yield sse.event(sse.DONE)
    except Refusal as refusal:
        yield sse.event(refusal.body)
    except Exception as error:
        log.error("stream failed", job=job.id, exc_info=error)
        yield sse.event(refusal_of(error).body)
