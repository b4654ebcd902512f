"""The server's log: one line an event on stderr, JSON for machines, plain for people."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUIET = ("/health", "/metrics")  # which are asked every few seconds
log = structlog.get_logger("mindsd.access")


def configure_logs(as_json: bool, level: str = "info") -> None:
    """Set up the process's log, that of its libraries included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
    ]
    plain = structlog.dev.ConsoleRenderer(  # others show variables: what was asked, and by whom
        exception_formatter=structlog.dev.plain_traceback
    )
    shown = structlog.processors.JSONRenderer() if as_json else plain
    traces = [structlog.processors.format_exc_info] if as_json else []
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *traces, shown]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("mindsd").setLevel(level.upper())


class AccessLog:
    """ASGI middleware: a line for each answer, with its status and seconds."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by whatever is round it."""
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        began, told = time.perf_counter(), {"status": 0, "job": None}

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = dict(message.get("headers", ()))
                job = headers.get(b"x-job-id")
                told.update(status=message["status"], job=job and job.decode())
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = round(time.perf_counter() - began, 3)
            known = {name: value for name, value in told.items() if value is not None}
            log.info(scope["method"], path=scope["path"], seconds=seconds, **known)
