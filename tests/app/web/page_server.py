"""The page on a real socket, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service
from mindsd.app.web.mount import PageOptions, mount_page
from mindsd.pipelines.hub import Hub
from tests.app.server.live_server import eventually


@dataclass(frozen=True)
class Page:
    """A page that answers.

    Attributes:
        url: of the server; the page is at `/ui/`.
        service: behind it, on the server's own event loop: look, don't touch.
        output: folder of its pictures.
    """

    url: str
    service: Service
    output: Path

    def is_idle(self) -> bool:
        return self.service.taken == 0


@contextmanager
def page_server(hub: Hub, options: PageOptions) -> Iterator[Page]:
    """Serve a hub's page on a free port of the loopback address."""
    service = Service(hub)
    app = create_app(service)
    assert mount_page(app, service, options)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="page server")
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Page(f"http://127.0.0.1:{port}", service, options.output)
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive(), "the server did not stop"
    assert service.taken == 0, "a job was not let go of"
