"""One user's request to a server, timed as the user sees it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import httpx

from .plan import Arrival, Targets

FAILED_TO_CONNECT = "no connection"
NOT_UNDERSTOOD = "no stream of OpenAI's"


@dataclass(eq=False)
class Visit:
    """What became of a request.

    Attributes:
        arrival: who asked.
        began: seconds from the start at which it was sent.
        seconds: until all of it was there, or it failed.
        first: until the first piece of an answer; None for images.
        between: seconds between two pieces.
        tokens: of the answer, as the server counts them.
        failure: why there is no result: a status or a kind of error; None where there is one.
    """

    arrival: Arrival
    began: float = 0.0
    seconds: float = 0.0
    first: float | None = None
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    failure: str | None = None

    def within(self, targets: Targets) -> bool:
        """Whether the user got what it should."""
        if self.failure is not None:
            return False
        if self.arrival.kind == "image":
            return self.seconds <= targets.image
        mean = sum(self.between) / len(self.between) if self.between else 0.0
        return (self.first or 0.0) <= targets.first_token and mean <= targets.between_tokens


async def visit(client: httpx.AsyncClient, arrival: Arrival, start: float) -> Visit:
    """Ask, and wait for all of the answer.

    Args:
        start: `time.perf_counter` of the load's.
    """
    own, began = Visit(arrival), time.perf_counter()
    own.began = began - start
    try:
        if arrival.kind == "chat":
            await _stream(client, own, began)
        else:
            answer = await client.post(arrival.path, json=arrival.body)
            own.failure = None if answer.is_success else str(answer.status_code)
    except httpx.ConnectError:
        own.failure = FAILED_TO_CONNECT
    except httpx.HTTPError as error:
        own.failure = type(error).__name__
    except (ValueError, LookupError, TypeError, AttributeError):  # of JSON that is none, or other
        own.failure = NOT_UNDERSTOOD
    own.seconds = time.perf_counter() - began
    return own


async def _stream(client: httpx.AsyncClient, own: Visit, began: float) -> None:
    async with client.stream("POST", own.arrival.path, json=own.arrival.body) as answer:
        if not answer.is_success:
            own.failure = str(answer.status_code)
            return
        last, whole = began, False
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                whole = True
                break
            told = json.loads(line.removeprefix("data: "))
            if "error" in told:
                own.failure = str(told["error"].get("code"))
                return
            now = time.perf_counter()
            if told.get("usage"):
                own.tokens = told["usage"]["completion_tokens"]
            if not any(choice["delta"].get("content") for choice in told.get("choices", ())):
                continue
            if own.first is None:
                own.first = now - began
            else:
                own.between.append(now - last)
            last = now
        if not whole:
            own.failure = "cut short"
