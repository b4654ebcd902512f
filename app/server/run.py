"""Runs the application under uvicorn, and ends it in good order.

    SIGTERM/SIGINT   no new jobs: 503, /health too; what runs goes on
    after `drain`    what is left is cancelled, the listener closes, the models are unloaded
    a second signal  the same at once

uvicorn alone would close the listener first: clients that come meanwhile would see a refused
connection where they should be told 503.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from mindsd.errors import OutputError

from .service import Service

log = structlog.get_logger("mindsd.server")

BACKLOG = 2048
SWEEP = 5.0  # seconds between two looks at idle models


class Server(uvicorn.Server):
    """uvicorn, which drains before it closes.

    Args:
        service: what its application is made over.
        drain: seconds that what runs may take when the end is asked for.
        on_start: called once requests are taken.
        on_end: called when the end is asked for, with how many requests are in hand.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        drain: float,
        on_start: Callable[[], None] = lambda: None,
        on_end: Callable[[int], None] = lambda taken: None,
    ) -> None:
        super().__init__(config)
        self.service = service
        self._drain = drain
        self._on_start, self._on_end = on_start, on_end
        self._ending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: uvicorn calls this in place of ending."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """Drain and close; at once where it is asked for a second time."""
        if self._ending is not None:
            self.service.cancel_all()
            self.should_exit = True
            return
        self._on_end(self.service.taken)
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        await self.service.drain(self._drain)
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on exactly this address.

    Raises:
        OutputError: it is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    own = socket.socket(family)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        own.bind((host, port))
        own.listen(BACKLOG)
    except OSError as error:
        own.close()
        said = f"cannot listen on {host}:{port} ({error.strerror or error})"
        raise OutputError(f"{said}; choose another --port or --host") from None
    return own


def make_server(
    app: FastAPI,
    service: Service,
    *,
    drain: float = 30.0,
    on_start: Callable[[], None] = lambda: None,
    on_end: Callable[[int], None] = lambda taken: None,
) -> Server:
    """The server of an application; `serve` runs it."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 * 1024,
        http="h11",
        ws="none",
    )
    return Server(config, service, drain, on_start, on_end)


async def serve(server: Server, at: socket.socket) -> None:
    """Serve on a listening socket until the server is told to end."""
    sweeping = asyncio.create_task(_sweep(server.service))
    try:
        await server.serve(sockets=[at])
    finally:
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping


async def _sweep(service: Service) -> None:
    """Unload models that have been idle for longer than they are kept."""
    while True:
        await asyncio.sleep(SWEEP)
        try:
            await asyncio.to_thread(service.hub.sweep)
        except Exception as error:  # of one model; the others still grow idle
            log.error("a model was not unloaded in good order", exc_info=error)
