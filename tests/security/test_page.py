"""The page is behind the same guard, and serves no file but its own.

CVE-2024-1728, CVE-2024-0964, CVE-2024-51751, CVE-2024-47164, CVE-2025-23042, CVE-2026-28414,
CVE-2026-49119 (files); CVE-2024-48052, CVE-2026-28416, GHSA-3xvj-7669-6whx (addresses).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from mindsd.app.server.application import create_app
from mindsd.app.server.guard import GuardOptions
from mindsd.app.server.service import Service

pytest.importorskip("gradio", reason="the page takes Gradio")

KEY = "correct-horse"
FILE = "/ui/gradio_api/file="
LEAKS = ("root:", "import ", "mindsd =", "[project]")
TRICKS = [
    "/etc/passwd",
    "//etc/passwd",
    "/./etc/passwd",
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "%252fetc%252fpasswd",
    "..\\..\\etc\\passwd",
    "file:///etc/passwd",
    "/proc/self/environ",
    "/etc/passwd%00.png",
    "pyproject.toml",
    str(Path(__file__)),
    "http://127.0.0.1:1/a.png",
    "http://169.254.169.254/latest/meta-data/",
    "https://evil.example/a.svg",
]


@pytest.fixture(scope="module")
def asked(hub, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Asks the application with its page, with and without a key."""
    from mindsd.app.web.mount import PageOptions, mount_page

    made = {}
    for key in (None, KEY):
        service = Service(hub)
        made[key] = create_app(service, GuardOptions(key=key))
        assert mount_page(made[key], service, PageOptions(tmp_path_factory.mktemp("pictures")))

    def ask(method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        async def inside() -> httpx.Response:
            transport = httpx.ASGITransport(made[key], raise_app_exceptions=False)
            base = "http://localhost"
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                return await client.request(method, path, **options)

        return asyncio.run(inside())

    return ask


def test_the_page_is_there(asked):
    assert asked("GET", "/").headers["location"] == "/ui/"
    answer = asked("GET", "/ui/")
    assert answer.status_code == 200 and "gradio" in answer.text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize("trick", TRICKS)
def test_no_file_of_the_machine_and_no_address_is_fetched(asked, trick: str):
    for path in (f"{FILE}{trick}", f"{FILE.replace('=', '/')}{trick}", f"/ui/file={trick}"):
        answer = asked("GET", path)
        assert answer.status_code >= 400 or "location" in answer.headers, (path, answer.text[:200])
        assert answer.headers.get("location", "/").startswith(("/", "http://localhost/")), path
        assert not any(leak in answer.text for leak in LEAKS)


@pytest.mark.parametrize(
    "path",
    ["/ui/", "/ui/config", "/ui/gradio_api/info", "/ui/gradio_api/startup-events", FILE + "a.png"],
)
def test_a_key_is_asked_for_everything_of_it(asked, path: str):
    assert asked("GET", path, KEY).status_code == 401
    seen = asked("GET", path, KEY, headers={"Accept": "text/html"})
    assert (seen.status_code, seen.headers["location"]) == (303, "/login")
    allowed = asked("GET", path, KEY, headers={"Authorization": f"Bearer {KEY}"})
    assert allowed.status_code not in (401, 303)


@pytest.mark.parametrize("path", ["upload", "queue/join", "run/predict", "call/predict", "reset"])
def test_a_page_of_elsewhere_cannot_use_it(asked, path: str):
    """A mounted Gradio alone takes a POST of a foreign origin, with the cookie."""
    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        answer = asked("POST", f"/ui/gradio_api/{path}", headers={"Origin": origin})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "origin_not_allowed"


def test_what_is_sent_to_it_has_a_size(asked):
    many = {"files": ("a.png", b"x" * (33 * 2**20), "image/png")}
    assert asked("POST", "/ui/gradio_api/upload", files=many).status_code == 413
