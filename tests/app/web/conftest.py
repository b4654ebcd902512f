"""Small random models behind a studio in this process, and behind the page on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from mindsd.app.server.service import Service, ServiceLimits
from mindsd.app.web.mount import PageOptions
from mindsd.app.web.studio import Studio
from mindsd.config import speed_named
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.profile import Measured, Profile
from mindsd.pipelines.shelf import Shelf
from tests.app.web.page_server import Page, page_server


@pytest.fixture(scope="session")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's folder of them, empty."""
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="session")
def hub(model: Path, language_model: Path, vision_model: Path, profiles: Path) -> Iterator[Hub]:
    """`draws`, `writes` and `sees`."""
    named = {"draws": model, "writes": language_model, "sees": vision_model}
    options = HubOptions(device="cpu", dtype="float32", keep_alive=None)
    with Hub(Shelf(named=named, shipped=False, profiles=profiles), options) as made:
        yield made


@pytest.fixture
def in_studio(hub: Hub, tmp_path: Path) -> Callable[..., Any]:
    """Runs a coroutine function with a studio, whose work must have ended when it returns."""

    def run(body: Callable[[Studio], Coroutine[Any, Any, Any]], **limits: Any) -> Any:
        async def inside() -> Any:
            service = Service(hub, ServiceLimits(**limits))
            studio = Studio(service, tmp_path / "out", tmp_path / "cache")
            try:
                return await body(studio)
            finally:
                await service.drain(0)
                await studio.settled()
                assert service.taken == 0, "a job was not let go of"

        return asyncio.run(inside())

    return run


@pytest.fixture
def profile() -> Profile:
    """Saves three quarters of the time at an SSIM of 0.981."""
    measured = Measured(16, 0.4, 0.1, 3.9, 4.0, 4.1, 33.2, 28.0, 0.981, 0.96, 0.88, 0.88)
    return Profile(
        *("tiny-sd", "0123456789abcdef", "cpu", "x86", "float32", 24, 3.0, None, 128, 128, 8),
        *("ssim>=0.98", speed_named("fast"), measured, {}, "2026-01-01"),
    )


@pytest.fixture(scope="session")
def page(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    output = tmp_path_factory.mktemp("page") / "pictures"
    with page_server(hub, PageOptions(output)) as served:
        yield served
