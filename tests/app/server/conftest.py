"""A hub of small random models, and the application over it, called in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service, ServiceLimits
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf
from tests.app.server.live_server import Live, live_server

Client = httpx.AsyncClient


@pytest.fixture(scope="session")
def shelf(model: Path, language_model: Path, vision_model: Path) -> Shelf:
    """`draws`, `writes` and `sees`."""
    return Shelf(
        named={"draws": model, "writes": language_model, "sees": vision_model}, shipped=False
    )


@pytest.fixture(scope="session")
def hub(shelf: Shelf) -> Iterator[Hub]:
    with Hub(shelf, HubOptions(device="cpu", dtype="float32", keep_alive=None)) as made:
        yield made


@pytest.fixture
def served(hub: Hub) -> Callable[[Callable[[Client, Service], Awaitable[Any]]], Any]:
    """Runs a coroutine function with a client and the service behind it."""

    def run(body: Callable[[Client, Service], Coroutine[Any, Any, Any]], **limits: Any) -> Any:
        async def inside() -> Any:
            async with client_of(hub, **limits) as (client, service):
                return await body(client, service)

        return asyncio.run(inside())

    return run  # pyright: ignore[reportReturnType]


@pytest.fixture
def live(hub: Hub) -> Iterator[Live]:
    """A server on a real socket: `base_url` (`api` for OpenAI's clients) and `service`."""
    with live_server(hub) as server:
        yield server


@asynccontextmanager
async def client_of(hub: Hub, **limits: Any) -> AsyncIterator[tuple[Client, Service]]:
    service = Service(hub, ServiceLimits(**limits))
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client, service
    await service.drain(5)
    assert service.taken == 0, "a job was not let go of"
