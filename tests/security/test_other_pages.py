"""A web page somewhere attacks what listens on localhost: on every route there is.

CVE-2024-28224 (Ollama), CVE-2025-62593 (Ray), GHSA-48cq-79qq-6f7x (Gradio).
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from mindsd.app.server.application import create_app
from mindsd.app.server.guard import GuardOptions
from mindsd.app.server.service import Service
from tests.security.routes import doors

EVIL = "https://evil.example"
KEY = "correct-horse"
BESIDE = ["/", "/ui/", "/openapi.json", "/docs", "/redoc", "/metrics", "/gradio_api/info", "/none"]


def sweep(
    hub, guard: GuardOptions, headers: dict[str, str]
) -> dict[tuple[str, str], httpx.Response]:
    """The answer of every door to the same headers."""

    async def inside() -> dict[tuple[str, str], httpx.Response]:
        app = create_app(Service(hub), guard)
        asked = [(door.method, door.at("x")) for door in doors(app)]
        asked += [(method, path) for path in BESIDE for method in ("GET", "POST")]
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return {
                (method, path): await client.request(method, path, headers=headers)
                for method, path in asked
            }

    return asyncio.run(inside())


def test_every_route_refuses_another_host(hub):
    found = sweep(hub, GuardOptions(), {"Host": "evil.example"})
    assert len(found) > 20 and {answer.status_code for answer in found.values()} == {403}


def test_every_unsafe_route_refuses_another_origin_and_none_lets_it_read(hub):
    found = sweep(hub, GuardOptions(), {"Origin": EVIL})
    for (method, path), answer in found.items():
        assert "access-control-allow-origin" not in answer.headers, path
        assert (answer.status_code == 403) == (method not in ("GET", "HEAD")), (method, path)


@pytest.mark.parametrize("host", ["localhost", "localhost/health?", "localhost#@/health"])
def test_every_route_but_health_asks_for_the_key(hub, host: str):
    """CVE-2026-48746; vLLM guarded only what lay below /v1."""
    for (_, path), answer in sweep(hub, GuardOptions(key=KEY), {"Host": host}).items():
        if host == "localhost":
            assert answer.status_code == (200 if path == "/health" else 401), path
        else:
            assert answer.status_code == 403, path


def test_a_named_origin_may_read_and_ask_and_another_may_not(hub):
    guard = GuardOptions(key=KEY, origins=("https://app.example",))

    async def inside() -> None:
        transport = httpx.ASGITransport(create_app(Service(hub), guard))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            }
            named = {"Origin": "https://app.example"}
            before = await client.options("/v1/models", headers={**named, **asked})
            assert before.status_code == 200
            assert before.headers["access-control-allow-origin"] == named["Origin"]
            refused = await client.options("/v1/models", headers={"Origin": EVIL, **asked})
            assert "access-control-allow-origin" not in refused.headers
            bearer = {"Authorization": f"Bearer {KEY}"}
            read = await client.get("/v1/models", headers={**named, **bearer})
            assert read.headers["access-control-allow-origin"] == named["Origin"]
            unread = await client.get("/v1/models", headers={"Origin": EVIL, **bearer})
            assert "access-control-allow-origin" not in unread.headers
            assert "access-control-allow-credentials" not in read.headers

    asyncio.run(inside())


def test_nothing_is_installed_or_run_by_a_request(hub):
    """CVE-2024-21576, CVE-2026-22777, CVE-2025-10164, CVE-2026-7304: there is no such route."""
    words = ("install", "update", "weights", "plugin", "node", "eval", "exec", "upload", "pull")
    paths = [door.path for door in doors(create_app(Service(hub)))]
    assert [path for path in paths if any(word in path for word in words)] == []
