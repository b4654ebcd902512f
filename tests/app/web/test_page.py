"""The page over HTTP: what programs can ask of it, and what it does not give away."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service
from mindsd.app.web import mount
from mindsd.app.web.mount import PageOptions, mount_page
from tests.app.server.live_server import eventually
from tests.app.web.page_server import Page
from tests.app.web.test_image_handlers import form

EMPTY = {"background": None, "layers": [], "composite": None, "id": None}


@pytest.fixture(scope="module")
def client(page: Page) -> Client:
    return Client(f"{page.url}/ui/", verbose=False)


def test_a_program_draws_and_watches(client: Client, page: Page):
    id = client.predict(None, EMPTY, [], *form(steps="12"), api_name="/draw")
    job = client.submit(id, api_name="/watch")
    assert "Done: 1 image" in job.result()[0]
    files = [own["value"] for state in job.outputs() if "value" in (own := state[4])]
    data = Path(files[-1]).read_bytes()
    assert any(file.read_bytes() == data for file in page.output.glob("*.png"))
    with Image.open(io.BytesIO(data)) as picture:
        assert "a red circle" in picture.info["parameters"]  # not encoded anew


def test_cancel_ends_it(client: Client, page: Page):
    id = client.predict(None, EMPTY, [], *form(steps="900"), api_name="/draw")
    client.predict(id, api_name="/cancel_all")
    client.predict(id, api_name="/watch")
    eventually(page.is_idle)


def test_a_picture_is_redrawn(client: Client, pictures: list[Path]):
    canvas = EMPTY | {"background": handle_file(pictures[0])}
    id = client.predict(None, canvas, [], *form(size="64x64"), api_name="/draw")
    assert "Done: 1 image" in client.predict(id, api_name="/watch")[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": str(10**30)}, "steps: "),
        ({"prompt": "a" * 2_000_000}, "rompt|long|10000"),
        ({"model": "../draws"}, "choices"),
        ({"strength": 7}, "strength|maximum"),
    ],
)
def test_what_is_wrong_is_refused_and_the_page_goes_on(client: Client, page, changes, said):
    with pytest.raises(Exception, match=said) as refused:
        client.predict(None, EMPTY, [], *form(**changes), api_name="/draw")
    assert isinstance(refused.value, AppError | ValueError)
    assert "Traceback" not in str(refused.value) and str(Path.home()) not in str(refused.value)
    assert page.is_idle()


def test_files_of_the_disk_are_not_given(page: Page):
    assert (page.output / "0001.png").exists() or page.output.is_dir()
    secrets = ["/etc/passwd", mount.__file__, str(page.output), str(page.output / "0001.png")]
    with httpx.Client(base_url=page.url) as http:
        for path in (*secrets, "../../etc/passwd", "http://127.0.0.1:1/a", "%2fetc%2fpasswd"):
            assert http.get(f"/ui/gradio_api/file={path}").status_code in (403, 404), path


def test_a_file_that_was_not_sent_is_not_read(client: Client, page: Page):
    for path in ("/etc/passwd", mount.__file__):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        message = {"text": "What?", "files": [file]}
        with pytest.raises(AppError):
            client.predict(None, message, "sees", "", "4", "0", api_name="/say")
    assert page.is_idle()


def test_the_root_leads_to_the_page_which_asks_nobody_else(page: Page):
    with httpx.Client(base_url=page.url, follow_redirects=True) as http:
        answer = http.get("/")
        assert answer.url.path == "/ui/" and "Content-Security-Policy" in answer.text
        assert http.get("/favicon.ico").headers["content-type"].startswith("image/svg")
        assert http.get("/manifest.json").json()["start_url"] == "/ui/"
        config = http.get("/ui/config").json()
        assert config["analytics_enabled"] is False and not config["footer_links"]
        assert "fonts.googleapis" not in answer.text + http.get("/ui/theme.css").text


def test_a_foreign_page_may_not_ask(page: Page):
    with httpx.Client(base_url=page.url, headers={"Origin": "https://evil.example"}) as http:
        assert http.post("/ui/gradio_api/call/draw", json={"data": []}).status_code == 403
        assert http.post("/ui/gradio_api/upload", files={"files": b"a"}).status_code == 403


def test_without_gradio_there_is_no_page(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(mount, "find_spec", lambda name: None)
    service = Service(hub)
    app = create_app(service)
    routes = len(app.routes)
    assert mount_page(app, service, PageOptions(tmp_path / "out")) is False
    assert len(app.routes) == routes and not (tmp_path / "out").exists()
    assert "pip install 'mindsd[web]'" in mount.MISSING


def test_the_pages_own_files_go_with_the_server(hub, tmp_path, monkeypatch):
    monkeypatch.setenv(mount.CACHE, "before")
    service = Service(hub)
    app = create_app(service)
    assert mount_page(app, service, PageOptions(tmp_path / "out"))
    cache = Path(os.environ[mount.CACHE])
    assert cache.is_dir() and cache.stat().st_mode & 0o077 == 0

    async def live() -> None:
        async with app.router.lifespan_context(app):
            assert cache.is_dir()

    asyncio.run(live())
    [mounted] = [own for own in app.routes if getattr(own, "path", "") == mount.PATH]
    assert mounted.app.stop_event.is_set()  # pyright: ignore[reportAttributeAccessIssue]
    assert not cache.exists() and os.environ[mount.CACHE] == "before"
