"""/v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from .chat_body import ChatBody
from .chat_task import ChatTask
from .served import Served
from .sse import STREAMED
from .text_answer import REFUSED, answer

router = APIRouter(prefix="/v1/chat", tags=["texts"])


@router.post("/completions", responses=STREAMED | REFUSED)
async def complete_chat(body: ChatBody, client: Request, service: Served) -> Response:
    """Answer messages."""
    return await answer(client, service, ChatTask(body, client.app.state.remote))
