"""A call for images is answered: with all of them at once, or by a stream of them."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from PIL import Image

from mindsd.errors import MindsdError
from mindsd.pipelines.shelf import Entry
from mindsd.request import Notice

from . import sse
from .beginning import begin
from .image_stream import image_events
from .image_task import ImageTask
from .job import Job
from .refusal import Refusal, refusal_of
from .service import Service
from .threads import on_thread
from .watching import begun, watching


async def answer(client: Request, service: Service, entry: Entry, task: ImageTask) -> Response:
    """The images, or why there are none; with the job's id in any case.

    Raises:
        Refusal: the service takes no more.
    """
    job = service.open("image", entry.id, len(task.asked), seconds=task.body.timeout)
    try:
        if task.body.stream:
            told = await begun(client, job, begin(service, job, task))
            return sse.stream(image_events(job, told, task), job)
        return await _whole(client, service, job, task)
    except (Refusal, MindsdError) as error:
        refusal = refusal_of(error)
        return JSONResponse(refusal.body, refusal.status, refusal.headers | _named(job))


async def _whole(client: Request, service: Service, job: Job, task: ImageTask) -> Response:
    """All images in one body."""
    notices: dict[int, list[str]] = {}
    async with watching(client, job):
        async for place, event in await begin(service, job, task):
            if isinstance(event, Notice):
                notices.setdefault(place, []).append(event.text)
        images = await job.finished()
        return await on_thread(None, _body, job, task, images, notices)


def _body(
    job: Job, task: ImageTask, images: list[Image.Image], notices: dict[int, list[str]]
) -> Response:
    """On a thread: files are encoded, and make a body of many megabytes."""
    data: list[dict[str, Any]] = [
        {"b64_json": task.file(place, image), "seed": task.asked[place].seed}
        for place, image in enumerate(images)
    ]
    for place, said in notices.items():
        data[place]["notices"] = said
    told = {"created": int(job.created), "model": job.model, "data": data, **task.told(0)}
    return JSONResponse(told, headers=_named(job))


def _named(job: Job) -> dict[str, str]:
    return {"X-Job-Id": job.id}
