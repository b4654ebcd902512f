"""/v1/images/generations and /v1/images/edits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from .edit_form import FORM, read_form
from .image_answer import answer
from .image_bodies import ImageBody
from .image_task import ImageTask
from .model_choice import choose_model
from .served import Served
from .service import Service
from .sse import STREAMED

router = APIRouter(prefix="/v1/images", tags=["images"])
REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"description": "it cannot be done"},
    404: {"description": "there is no such model"},
    409: {"description": "the job was cancelled"},
    413: {"description": "a picture or the body is too large"},
    429: {"description": "too much waits already"},
    503: {"description": "the server is going down"},
    504: {"description": "it took too long"},
    507: {"description": "it does not fit in memory"},
}


@router.post("/generations", responses=STREAMED | REFUSED)
async def generate(body: ImageBody, client: Request, service: Served) -> Response:
    """Draw images by a text."""
    return await _drawn(client, service, body, {})


@router.post("/edits", responses=STREAMED | REFUSED, openapi_extra={"requestBody": FORM})
async def edit(client: Request, service: Served) -> Response:
    """Draw a picture anew by a text; with a mask, only what that marks."""
    body, files = await read_form(client)
    return await _drawn(client, service, body, files)


async def _drawn(
    client: Request, service: Service, body: ImageBody, files: Mapping[str, bytes]
) -> Response:
    entry = await asyncio.to_thread(choose_model, service.hub, body.model, "image")
    return await answer(client, service, entry, ImageTask(body, service.hub.shelf, files))
