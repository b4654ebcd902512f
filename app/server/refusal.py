"""What a client is told when its request cannot be done: OpenAI's error body, with fixed words.

    {"error": {"message": "...", "type": "invalid_request_error", "param": null, "code": "..."}}

Only our own `RequestError`s speak for themselves, and only where they show no path and no address:
what a library says may hold either (CVE-2026-22778, CVE-2026-73555).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import structlog

from mindsd.errors import (
    Cancelled,
    EngineClosed,
    MindsdError,
    OutOfMemory,
    QueueFull,
    RequestError,
    UnknownModel,
)

log = structlog.get_logger("mindsd.server")

INSIDE = re.compile(r"0x[0-9a-fA-F]{6,}|(?<![\w:/])/[\w.-]+/|[A-Za-z]:\\|Traceback|File \"")
LONGEST = 500  # characters of a message


@dataclass(eq=False)
class Refusal(Exception):
    """An answer that is no result.

    Attributes:
        status: of HTTP.
        code: one word for programs.
        message: one sentence for people.
        param: the field that is wrong; None where it is not one.
        retry_after: seconds after which asking again makes sense; None where it does not.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def kind(self) -> str:
        """OpenAI's name of the kind of error."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def body(self) -> dict[str, Any]:
        told = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": told}

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


GONE = Refusal(499, "client_closed_request", "the client went away")
STOPPED = Refusal(409, "cancelled", "the job was cancelled")
TIMED_OUT = Refusal(504, "timeout", "the request took longer than it may; ask for less, or later")
DRAINING = Refusal(503, "draining", "the server is going down; ask again later", None, 5)
NO_ENGINE = Refusal(
    503, "engine_stopped", "the engine has stopped; the server has to be started again", None, 5
)
BROKEN = Refusal(500, "internal_error", "the server failed; its log says why")


def refusal_of(error: BaseException) -> Refusal:
    """What a client is told of an error."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UnknownModel):
        return Refusal(404, "model_not_found", safe_words(error), "model")
    if isinstance(error, RequestError):
        return Refusal(400, "invalid_request", safe_words(error))
    if isinstance(error, QueueFull):
        return Refusal(429, "queue_full", safe_words(error), None, 1)
    if isinstance(error, EngineClosed):
        return replace(NO_ENGINE)
    if isinstance(error, Cancelled):
        return replace(STOPPED)
    if isinstance(error, OutOfMemory):
        said = "it does not fit in memory even alone; ask for a smaller size or fewer tokens"
        return Refusal(507, "out_of_memory", said)
    if isinstance(error, MindsdError):
        return Refusal(500, type(error).__name__.lower(), f"it failed: {_word(error)}; see the log")
    return replace(BROKEN)


@contextmanager
def about(param: str) -> Iterator[None]:
    """What is refused inside is the fault of this field."""
    try:
        yield
    except (Refusal, RequestError) as error:
        raise replace(refusal_of(error), param=param) from None


def _word(error: MindsdError) -> str:
    """What kind of thing went wrong, from the first sentence of the error's own docstring."""
    return (type(error).__doc__ or "").split(";")[0].split(",")[0].strip().rstrip(".").lower()


def safe_words(error: object) -> str:
    """An error's sentence, unless it shows something of the machine; then the log has it."""
    text = " ".join(str(error).split())[:LONGEST]
    if not INSIDE.search(text):
        return text
    log.info("not told to the client", error=text)
    return "the request cannot be done as it is; the server's log says why"
