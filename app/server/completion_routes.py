"""/v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from .completion_body import CompletionBody
from .completion_task import CompletionTask
from .served import Served
from .sse import STREAMED
from .text_answer import REFUSED, answer

router = APIRouter(prefix="/v1/completions", tags=["texts"])


@router.post("", responses=STREAMED | REFUSED)
async def complete(body: CompletionBody, client: Request, service: Served) -> Response:
    """Go on with texts."""
    return await answer(client, service, CompletionTask(body))
