"""The end of a server: what runs may finish, what comes is told 503, and then nobody listens."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from mindsd.app.server.application import create_app
from mindsd.app.server.job import Job
from mindsd.app.server.run import Server, listen, make_server, serve
from mindsd.app.server.service import Service
from mindsd.errors import OutputError
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.shelf import Shelf
from tests.app.server.live_server import eventually


class Running:
    """A server on a thread, and the address of it."""

    def __init__(self, hub: Hub, drain: float) -> None:
        self.socket = listen("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.service = Service(hub)
        self.server: Server = make_server(create_app(self.service), self.service, drain=drain)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        eventually(lambda: self.server.started)

    def _run(self) -> None:
        with self.socket:
            self.loop.run_until_complete(serve(self.server, self.socket))

    def draw(self, steps: int) -> Job:
        """Begin a job of one image of so many steps; it runs."""

        async def begin() -> Job:
            job = self.service.open("image", "draws")
            parameters = ImageParameters("a", steps=steps, width=64, height=64)
            self.service.start(job, lambda own: [own.text_to_image.submit(parameters)])
            return job

        job = asyncio.run_coroutine_threadsafe(begin(), self.loop).result()
        eventually(lambda: job.state != "queued")
        return job

    def signal(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)


@contextmanager
def running(hub: Hub, drain: float) -> Iterator[Running]:
    own = Running(hub, drain)
    try:
        yield own
    finally:
        own.signal()
        own.signal()
        own.thread.join(30)
        assert not own.thread.is_alive()


def refused(address: str) -> bool:
    try:
        httpx.get(f"{address}/health")
    except httpx.TransportError:
        return True
    return False


def test_what_runs_ends_and_what_comes_is_told_so(hub: Hub):
    with running(hub, drain=30) as own:
        assert httpx.get(f"{own.address}/health").json() == {"status": "ok"}
        job = own.draw(60)
        own.signal()
        eventually(lambda: own.service.draining)
        told = httpx.get(f"{own.address}/health")
        assert (told.status_code, told.json()) == (503, {"status": "draining"})
        assert httpx.post(f"{own.address}/v1/models/draws/load").status_code == 503
        eventually(lambda: not own.thread.is_alive())
        assert job.state == "done"
        assert refused(own.address)


def test_what_takes_too_long_is_cancelled(hub: Hub):
    with running(hub, drain=0.1) as own:
        job = own.draw(990)
        own.signal()
        own.thread.join(20)
        assert job.refusal is not None and job.refusal.code == "draining"
        assert own.service.taken == 0 and hub.engine.load() == (0, 0)


def test_a_second_signal_does_not_wait(hub: Hub):
    with running(hub, drain=60) as own:
        job = own.draw(990)
        own.signal()
        own.signal()
        eventually(lambda: job.refusal is not None and job.refusal.code == "draining")
        own.thread.join(20)
        assert not own.thread.is_alive() and job.state == "failed"


def test_it_listens_on_the_asked_address_alone(hub: Hub):
    before = _listening()
    with running(hub, drain=1) as own:
        assert _listening() - before == {own.socket.getsockname()[:2]}
    with listen("127.0.0.1", 0) as taken, pytest.raises(OutputError, match="choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(OutputError, match="cannot listen on 192.0.2.1"):
        listen("192.0.2.1", 0)


def _listening() -> set[tuple[str, int]]:
    found = psutil.Process().net_connections("inet")
    return {(own.laddr.ip, own.laddr.port) for own in found if own.status == psutil.CONN_LISTEN}


def test_health_tells_that_the_engine_has_died(shelf: Shelf):
    with Hub(shelf, HubOptions(device="cpu")) as broken:
        service = Service(broken)
        transport = httpx.ASGITransport(create_app(service))

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as own:
                return await own.get("/health")

        assert asyncio.run(ask()).json() == {"status": "ok"}
        broken.engine._give_up(RuntimeError("a bug of its own"))
        told = asyncio.run(ask())
        assert (told.status_code, told.json()) == (503, {"status": "broken"})
