"""A client that goes away takes its texts with it: streamed or not, running or waiting."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from mindsd.app.server.job import Job
from mindsd.pipelines.hub import Hub
from mindsd.request import Event, Piece
from tests.app.server.live_server import Live, eventually
from tests.zoo.drawing import held

ENDLESS = {"model": "writes", "ignore_eos": True, "max_tokens": 230, "n": 4}
DOORS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
}


@pytest.fixture
def late(live: Live) -> list[Event]:
    """Pieces that came though their job was cancelled; grows as they come."""
    found: list[Event] = []

    def hear(job: Job, place: int, event: Event) -> None:
        if isinstance(event, Piece) and job.refusal is not None:
            found.append(event)

    live.service.listeners.append(hear)
    return found


@pytest.fixture
def free(hub: Hub) -> Iterator[None]:
    """At the end no block of the cache is in use."""
    yield
    with hub.lease("writes") as resident:
        for lane in resident.text.model.runner.lanes:
            lane.pool.check()
            assert lane.pool.counts[1] == 0


def asked(live: Live, path: str, **more: Any) -> socket.socket:
    """A connection with a request on it that nobody has answered yet."""
    host, port = live.base_url.removeprefix("http://").split(":")
    body = json.dumps(ENDLESS | DOORS[path] | more).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((host, int(port)), 20)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def jobs(live: Live) -> list[str]:
    return [job.state for job in live.service.jobs()]


@pytest.mark.parametrize("path", DOORS)
def test_while_it_streams(live: Live, late: list[Event], free: None, path: str):
    with closing(asked(live, path, stream=True)) as connection:
        received = b""
        while received.count(b"data: ") < 8:
            received += connection.recv(4096)
    eventually(live.is_idle)
    assert jobs(live) == ["cancelled"] and len(late) <= 2 * ENDLESS["n"]


@pytest.mark.parametrize("path", DOORS)
def test_while_it_runs_and_nothing_is_streamed(
    live: Live, late: list[Event], free: None, path: str
):
    with closing(asked(live, path)):
        eventually(lambda: jobs(live) == ["running"])
    eventually(live.is_idle)
    assert jobs(live) == ["cancelled"] and len(late) <= 2 * ENDLESS["n"]


@pytest.mark.parametrize("stream", [False, True])
def test_while_it_waits(live: Live, hub: Hub, late: list[Event], free: None, stream: bool):
    with held(hub.engine):
        with closing(asked(live, "/v1/chat/completions", stream=stream)):
            eventually(lambda: sum(hub.engine.load()) == 2)  # what holds it is one
            assert jobs(live) == ["queued"]
        eventually(lambda: all(job.refusal is not None for job in live.service.jobs()))
    eventually(live.is_idle)
    assert jobs(live) == ["cancelled"] and late == []


def test_many_of_them_leave_nothing(live: Live, free: None):
    connections = [
        asked(live, path, stream=place % 3 == 0, n=1) for place in range(20) for path in DOORS
    ]
    eventually(lambda: "running" in jobs(live))
    for connection in connections:
        connection.close()
    eventually(live.is_idle)
    assert set(jobs(live)) == {"cancelled"}
