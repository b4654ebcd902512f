"""Sends a plan's users to a server, each at its own time, whatever became of those before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import httpx

from mindsd.errors import RequestError

from .plan import Arrival, LoadPlan, arrivals
from .visit import Visit, visit

PATIENCE = 600.0  # seconds without a byte
TOO_MANY = "not sent"


async def drive(
    client: httpx.AsyncClient,
    plan: LoadPlan,
    on_visit: Callable[[Visit], None] = lambda own: None,
) -> list[Visit]:
    """All visits of a plan, in the order of their ends; an open load: nobody waits for another.

    Args:
        client: with the server's address, and its key.
        on_visit: told of each when it is over.

    Raises:
        RequestError: nobody answers there, or one of the models is none of the server's.
    """
    coming = arrivals(plan)
    await _check(client, coming)
    start, visits = time.perf_counter(), []

    def over(own: Visit) -> None:
        visits.append(own)
        on_visit(own)

    async with asyncio.TaskGroup() as group:
        going = 0
        for arrival in coming:
            await asyncio.sleep(start + arrival.at - time.perf_counter())
            if going >= plan.most:
                over(Visit(arrival, time.perf_counter() - start, failure=TOO_MANY))
                continue
            going += 1

            async def go(arrival: Arrival = arrival) -> None:
                nonlocal going
                own = await visit(client, arrival, start)
                going -= 1
                over(own)

            group.create_task(go())
    return visits


def client_of(address: str, key: str | None = None) -> httpx.AsyncClient:
    """A client for a server, which no proxy stands before."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    timeout = httpx.Timeout(PATIENCE, pool=None)
    address = address.rstrip("/").removesuffix("/v1")
    return httpx.AsyncClient(
        base_url=address, headers=headers, limits=limits, timeout=timeout, trust_env=False
    )


async def _check(client: httpx.AsyncClient, coming: Sequence[Arrival]) -> None:
    try:
        answer = await client.get("/v1/models")
    except httpx.HTTPError as error:
        said = f"nobody answers at {client.base_url} ({type(error).__name__})"
        raise RequestError(f"{said}; start one: mindsd serve") from None
    try:
        known = [own["id"] for own in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        said = f"{client.base_url} answers {answer.status_code}, as no OpenAI server does"
        raise RequestError(
            f"{said}; is it the right address, and --api-key the right key?"
        ) from None
    for model in sorted({arrival.body["model"] for arrival in coming}):
        if model not in known:
            raise RequestError(f"the server has no model {model!r}; it has: {', '.join(known)}")
