"""A client that goes away takes its job with it, also where nothing is streamed to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import Request

from .job import Job
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
