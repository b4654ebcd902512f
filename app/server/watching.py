"""A client that goes away takes its job with it, also where nothing is streamed to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import Request

from .job import Job, Told
from .refusal import GONE


@asynccontextmanager
async def listening(client: Request, job: Job) -> AsyncIterator[None]:
    """Cancels the job when its client disconnects meanwhile.

    Starlette goes on with a handler that streams nothing; whoever has read the body may listen for
    what comes after it, which can only be the disconnect.
    """

    async def listen() -> None:
        while (await client.receive())["type"] != "http.disconnect":
            pass
        job.cancel(replace(GONE))

    listens = asyncio.create_task(listen())
    try:
        yield
    finally:
        listens.cancel()


@asynccontextmanager
async def watching(client: Request, job: Job) -> AsyncIterator[Job]:
    """The same, and cancels the job in any case when it is left."""
    async with listening(client, job), job:
        yield job


async def begun(
    client: Request, job: Job, starting: Awaitable[AsyncIterator[Told]]
) -> AsyncIterator[Told]:
    """The events of a job from its second on, once it has had one: what is refused before that can
    still get a status of its own, where a stream's has to be 200.

    Args:
        starting: starts it and gives its events.

    Raises:
        Refusal: it came to nothing, or the client went away; the job is left.
    """
    try:
        async with listening(client, job):
            told = await starting
            if await anext(told, None) is None:
                await job.finished()
    except BaseException as error:
        job.leave(error)
        raise
    return told
