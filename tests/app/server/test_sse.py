"""Server-sent events, and the job that ends with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mindsd.app.server import sse
from mindsd.app.server.job import Job


class Events:
    """Gives what it is given, then waits for ever.

    Attributes:
        closed: nobody reads it any more.
    """

    def __init__(self, *given: bytes) -> None:
        self.given = given
        self.closed = False

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            for one in self.given:
                yield one
            await asyncio.Event().wait()
        finally:
            self.closed = True


def test_an_event_is_one_line_of_json_and_may_have_a_name():
    assert sse.event({"a": "b\nc"}) == b'data: {"a": "b\\nc"}\n\n'
    assert sse.event(sse.DONE) == b"data: [DONE]\n\n"
    assert sse.event({}, "error") == b"event: error\ndata: {}\n\n"


def test_silence_is_broken_by_comments_that_lose_no_event():
    async def slow() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.05)
        yield b"one"
        yield b"two"

    async def told() -> list[bytes]:
        return [own async for own in sse.with_pings(slow(), every=0.01)]

    found = asyncio.run(told())
    assert found[0].startswith(b":") and found[-2:] == [b"one", b"two"]


@pytest.mark.parametrize("waiting", [True, False])
def test_who_stops_reading_ends_the_events(waiting: bool):
    events = Events(b"one")

    async def read() -> None:
        async for _ in sse.with_pings(events()):
            if not waiting:
                return

    async def run() -> None:
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert events.closed
        assert reading.cancelled() == waiting and (waiting or reading.exception() is None)

    asyncio.run(run())


def test_a_client_that_is_gone_before_the_first_event_ends_the_job():
    sent: list[Any] = []

    async def run() -> None:
        job = Job("image", "draws")

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        answer = sse.stream(Events(b"one")(), job)
        assert answer.headers["X-Job-Id"] == job.id
        await answer({"type": "http"}, receive, send)
        assert job.state == "cancelled"

    asyncio.run(run())
    assert [own["type"] for own in sent] == ["http.response.start"]
