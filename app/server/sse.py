"""Server-sent events: one JSON text each, with a comment now and then so that nobody hangs up.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

EVERY = 15.0  # seconds of silence
DONE = "[DONE]"  # how OpenAI's streams end


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
        if coming is not None:
            coming.cancel()
        await events.aclose()  # pyright: ignore[reportAttributeAccessIssue]


def stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """The answer that sends them; a client that goes away closes the iterator."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(with_pings(events), 200, headers, "text/event-stream")
