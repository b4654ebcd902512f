"""The application on a real socket, in a thread: what streams and disconnects need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service, ServiceLimits
from mindsd.pipelines.hub import Hub


@dataclass(frozen=True)
class Live:
    """A server that answers.

    Attributes:
        base_url: "http://127.0.0.1:PORT", without a slash; OpenAI's routes are below `/v1`.
        service: behind it, on the server's own event loop: look, don't touch.
    """

    base_url: str
    service: Service

    @property
    def api(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.base_url}/v1"

    def is_idle(self) -> bool:
        """Whether no job is taken and the engine holds nothing."""
        return self.service.taken == 0 and self.service.hub.engine.load() == (0, 0)


@contextmanager
def live_server(hub: Hub, **limits: float) -> Iterator[Live]:
    """Serve a hub on a free port of the loopback address; what is left at the end must be let go.

    Args:
        limits: fields of `ServiceLimits`.
    """
    service = Service(hub, ServiceLimits(**limits))  # pyright: ignore[reportArgumentType]
    config = uvicorn.Config(
        create_app(service),
        host="127.0.0.1",
        port=0,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="live server")
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Live(f"http://127.0.0.1:{port}", service)
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive(), "the server did not stop"
    assert service.taken == 0, "a job was not let go of"


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds, which is looked at every 5 ms."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it did not come to hold within {seconds:g} s"
        time.sleep(0.005)
