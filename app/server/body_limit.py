"""The body of one request: not over its bytes, and here in time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsd.errors import RequestError

from .refusal import Refusal

TOO_LARGE = Refusal(413, "body_too_large", "the request's body is larger than this server takes")
TOO_SLOW = Refusal(408, "body_timeout", "the request's body took too long to arrive")


@dataclass(frozen=True)
class BodyLimits:
    """What a body may take.

    Attributes:
        bytes: of it.
        seconds: from when it is first waited for to its end.
    """

    bytes: int = 64 * 2**20
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.bytes < 1 or not self.seconds > 0:
            raise RequestError("a body's limits are positive; give at least 1 byte and some time")


async def limited(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, limits: BodyLimits
) -> None:
    """Run an application whose body is limited.

    A body that breaks off looks to the application like a client that went away, and whatever it
    answers to that, the client gets 413 or 408.
    """
    body = _Body(receive, send, limits)
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.bytes:
        body.refusal = TOO_LARGE
    else:
        try:
            await app(scope, body.receive, body.send)
        except Exception:
            if body.refusal is None or body.answered:
                raise
    if body.refusal is not None and not body.answered:
        told = replace(body.refusal)
        answer = JSONResponse(told.body, told.status, {"Connection": "close"})
        await answer(scope, receive, send)


class _Body:
    """What the application sees of its connection.

    Attributes:
        refusal: why the body was broken off; None where it was not.
        answered: the application's own answer has begun.
    """

    def __init__(self, receive: Receive, send: Send, limits: BodyLimits) -> None:
        self._receive, self._send, self._limits = receive, send, limits
        self._bytes = 0
        self._until: float | None = None
        self._read = False
        self.refusal: Refusal | None = None
        self.answered = False

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self._read:  # what comes now is only the disconnect, whenever it likes
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._limits.seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return self._break_off(TOO_SLOW)
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limits.bytes:
            return self._break_off(TOO_LARGE)
        self._read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self.answered:
            return  # the refusal is sent instead
        self.answered = True
        await self._send(message)

    def _break_off(self, reason: Refusal) -> Message:
        self.refusal = reason
        return {"type": "http.disconnect"}
