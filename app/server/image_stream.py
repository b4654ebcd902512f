"""Images as OpenAI streams them: rough ones on the way, then the finished one.

    event: image_generation.partial_image   (of an edit: image_edit.partial_image)
    data: {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": ...}

    event: image_generation.completed
    data: {"type": "image_generation.completed", "b64_json": ..., "usage": ...}

Ours beside theirs: `image_index` says which of n images it is, and a finished one has its `seed`
and `notices`. `usage` is there because clients look for it, and counts nothing: images have no
tokens. What fails after the first event is told by an event `error` with OpenAI's body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog

from mindsd.request import Done, Event, Notice, Preview

from . import sse
from .image_task import ImageTask
from .job import Job, Told
from .refusal import Refusal, refusal_of

log = structlog.get_logger("mindsd.server")

USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


async def image_events(
    job: Job, told: AsyncIterator[Told], task: ImageTask
) -> AsyncIterator[bytes]:
    """What happens to a job, to its end."""
    images = [_Image(job, task, place) for place in range(len(task.asked))]
    try:
        async for place, event in told:
            if (said := await images[place].tell(event)) is not None:
                yield sse.event(said, said["type"])
        await job.finished()
    except Refusal as refusal:
        yield _failure(refusal)
    except Exception as error:
        log.error("stream failed", job=job.id, exc_info=error)
        yield _failure(refusal_of(error))


class _Image:
    """One image of a stream."""

    def __init__(self, job: Job, task: ImageTask, place: int) -> None:
        self._job, self._task, self._place = job, task, place
        self._partials = 0
        self._notices: list[str] = []

    async def tell(self, event: Event) -> dict[str, Any] | None:
        """What the client is told of an event; None for nothing."""
        if isinstance(event, Notice):
            self._notices.append(event.text)
        elif isinstance(event, Preview) and self._is_wanted(event):
            self._partials += 1
            file = await asyncio.to_thread(self._task.partial, self._place, event.image)
            index = {"partial_image_index": self._partials - 1}
            return self._told("partial_image", file) | index
        elif isinstance(event, Done):
            file = await asyncio.to_thread(self._task.file, self._place, event.result)
            seed = {"seed": self._task.asked[self._place].seed}
            more = {"notices": self._notices} if self._notices else {}
            return self._told("completed", file) | {"usage": USAGE} | seed | more
        return None

    def _is_wanted(self, preview: Preview) -> bool:
        """Not beyond what was asked, nor after the last step: there the image itself comes."""
        _, total = self._job.steps[self._place]
        return self._partials < (self._task.body.partial_images or 0) and preview.step < total

    def _told(self, what: str, file: str) -> dict[str, Any]:
        return {
            "type": f"{self._task.does}.{what}",
            "image_index": self._place,
            "created_at": int(self._job.created),
            "b64_json": file,
            **self._task.told(self._place),
        }


def _failure(refusal: Refusal) -> bytes:
    return sse.event({"type": "error", **refusal.body}, "error")
