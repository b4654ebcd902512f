"""What one user makes of an answer."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from mindsd.app.load.plan import Arrival
from mindsd.app.load.visit import NOT_UNDERSTOOD, visit

PIECE = 'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
USAGE = 'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\n'


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (PIECE * 2 + USAGE + "data: [DONE]\n\n", None),
        (PIECE, "cut short"),
        (PIECE + 'data: {"error": {"code": "timeout"}}\n\n', "timeout"),
        ("data: {\n\n", NOT_UNDERSTOOD),
        ("data: []\n\n", NOT_UNDERSTOOD),
        ('data: {"usage": 3}\n\n', NOT_UNDERSTOOD),
        ('data: {"error": "no"}\n\n', NOT_UNDERSTOOD),
    ],
)
def test_a_stream_is_whole_or_fails_for_its_own_user_alone(sent: str, failure: str | None):
    async def ask():
        transport = httpx.MockTransport(lambda request: httpx.Response(200, text=sent))
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            arrival = Arrival(0, 0.0, "chat", "/v1/chat/completions", {})
            return await visit(client, arrival, time.perf_counter())

    own = asyncio.run(ask())
    assert own.failure == failure and own.seconds > 0
    assert failure is not None or (own.tokens == 2 and len(own.between) == 1)
