"""Puts the page into the server's application, where Gradio is installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse, Response

from ..server.service import Service

PATH = "/ui"
MISSING = "there is no page without Gradio: pip install 'mindsd[web]'"
CACHE = "GRADIO_TEMP_DIR"  # Gradio takes its folder of files from nowhere else
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" rx="2" '
    'fill="#0f766e"/><circle cx="4" cy="4" r="2" fill="#fff"/></svg>'
)


@dataclass(frozen=True)
class PageOptions:
    """What the page works with.

    Attributes:
        output: folder that its pictures go to, and of which it shows the newest.
    """

    output: Path = Path("pictures")


def mount_page(app: FastAPI, service: Service, options: PageOptions) -> bool:
    """Mount the page under /ui, with / leading to it; False where Gradio is not installed.

    Call it before the application serves: its lifespan is extended.

    Raises:
        OutputError: the output folder cannot be written.
    """
    if find_spec("gradio") is None:
        return False
    from .page import make_page, serve_page  # loads Gradio, which is optional
    from .studio import Studio

    before = os.environ.get(CACHE)
    cache = Path(tempfile.mkdtemp(prefix="mindsd-page-"))  # readable by nobody else
    os.environ[CACHE] = str(cache)
    studio = Studio(service, options.output, cache)
    _extend(app, studio, cache, before)
    hang_up = serve_page(app, make_page(studio), PATH)
    service.on_drained.append(hang_up)
    app.add_api_route("/", _lead, include_in_schema=False)
    app.add_api_route("/favicon.ico", _icon, include_in_schema=False)
    app.add_api_route("/manifest.json", _manifest, include_in_schema=False)
    return True


async def _lead() -> RedirectResponse:
    return RedirectResponse(f"{PATH}/")


async def _icon() -> Response:
    return Response(ICON, media_type="image/svg+xml")


async def _manifest() -> JSONResponse:
    """Gradio's page links to one at the root, where it serves none itself."""
    icon = {"src": "/favicon.ico", "type": "image/svg+xml", "sizes": "any"}
    told = {"name": "mindsd", "start_url": f"{PATH}/", "display": "browser", "icons": [icon]}
    return JSONResponse(told, media_type="application/manifest+json")


def _extend(app: FastAPI, studio: Any, cache: Path, before: str | None) -> None:
    """At the end of the server, write what is drawn, and leave no file of the page's own."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        try:
            async with inner(app) as state:
                yield state
            await studio.settled()
        finally:
            shutil.rmtree(cache, ignore_errors=True)
            if os.environ.get(CACHE) == str(cache):
                os.environ.pop(CACHE)
                os.environ.update({} if before is None else {CACHE: before})

    app.router.lifespan_context = lifespan
