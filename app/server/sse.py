"""Server-sent events: one JSON text each, with a comment now and then so that nobody hangs up.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .job import Job

EVERY = 15.0  # seconds of silence
DONE = "[DONE]"  # how OpenAI's streams end
STREAMED: dict[int | str, dict[str, Any]] = {  # what the API's document says of such routes
    200: {
        "description": "the answer; its events for a stream",
        "content": {"text/event-stream": {}},
    }
}


def event(told: Any, name: str | None = None) -> bytes:
    """One event."""
    text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {text}\n\n".encode()


async def with_pings(events: AsyncIterator[bytes], every: float = EVERY) -> AsyncIterator[bytes]:
    """The events, and a comment wherever none came for so many seconds."""
    coming: asyncio.Task[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))  # pyright: ignore
            done, _ = await asyncio.wait([coming], timeout=every)
            if not done:
                yield b": still at it\n\n"
                continue
            try:
                yield coming.result()
            except StopAsyncIteration:
                return
            coming = None
    finally:
        if coming is not None and not coming.done():
            coming.cancel()  # which ends the events, too: they run, and cannot be closed meanwhile
        else:
            await events.aclose()  # pyright: ignore[reportAttributeAccessIssue]


class JobStream(StreamingResponse):
    """The answer that sends a job's events. When it ends, however it ends, so does the job: a
    client may be gone before the first event, and an iterator that was never begun knows of no end.
    """

    def __init__(self, events: AsyncIterator[bytes], job: Job) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Job-Id": job.id}
        super().__init__(with_pings(events), 200, headers, "text/event-stream")
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._job:
            await super().__call__(scope, receive, send)


def stream(events: AsyncIterator[bytes], job: Job) -> JobStream:
    """The answer that sends the events of a job, which ends with it."""
    return JobStream(events, job)
