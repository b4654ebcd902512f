"""Names that clients send are ids of what is known, and never become paths.

CVE-2026-56671, CVE-2026-56673 (ComfyUI), CVE-2024-11042, CVE-2025-6237 (InvokeAI), CVE-2024-5182
(LocalAI), CVE-2024-31462 (A1111), CVE-2024-21575, CVE-2024-45436.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service
from mindsd.errors import RequestError, UnknownModel
from mindsd.pipelines.shelf import Shelf
from tests.security.routes import Door, doors

TRICKS = [
    "..",
    "../x",
    "../../../../etc/passwd",
    "..\\..\\x",
    "..%2f..%2fx",
    "%2e%2e",
    "/etc/passwd",
    "//etc/passwd",
    "C:\\Windows\\win.ini",
    "C:x",
    "\\\\host\\share",
    "a\0b",
    "a\r\nX-Header: 1",
    "file:///etc/passwd",
    "~root",
    "$HOME",
    "draws/",
    "draws/unet",
    "./draws",
    "draws\0",
    "a" * 5000,
    "\u2025/x",
    "\uff0e\uff0e/x",
    "",
    " ",
]


@pytest.fixture(scope="module")
def with_ids(hub) -> list[Door]:
    return [door for door in doors(create_app(Service(hub))) if door.has_id]


def test_there_are_routes_with_ids(with_ids):
    assert {("GET", "/v1/models/{id}"), ("GET", "/v1/jobs/{id}")} <= {
        (door.method, door.path) for door in with_ids
    }


@pytest.mark.parametrize("trick", TRICKS)
def test_an_id_of_a_route_is_no_path(trick: str, served, with_ids):
    async def body(client: httpx.AsyncClient, service: Service) -> None:
        for door in with_ids:
            for spelled in {quote(trick, safe=""), quote(quote(trick, safe=""), safe="")}:
                answer = await client.request(door.method, door.at(spelled))
                empty = not trick.strip() or trick in ("..", "draws/")  # another path, then
                allowed = {200, 307, 404, 405} if empty else {400, 404, 405, 422}
                assert answer.status_code in allowed, (door, spelled, answer.text)
                assert "root:" not in answer.text and "[extensions]" not in answer.text

    served(body)


@pytest.mark.parametrize("trick", TRICKS)
def test_an_id_in_a_body_is_no_path(trick: str, served):
    async def body(client: httpx.AsyncClient, service: Service) -> None:
        for sent in (
            {"prompt": "a", "model": trick, "steps": 1},
            {"prompt": "a", "model": "draws", "steps": 1, "loras": {trick: 1.0}},
        ):
            answer = await client.post("/v1/images/generations", json=sent)
            assert answer.status_code in (400, 404), answer.text
        assert service.hub.loaded().get(trick) is None

    served(body)


@pytest.mark.parametrize("trick", TRICKS)
def test_the_shelf_finds_nothing_by_a_path(trick: str, model: Path):
    shelf = Shelf(model.parent, shipped=False)
    with pytest.raises(UnknownModel):
        shelf.find(trick)
    with pytest.raises(RequestError, match="no id of a model"):
        Shelf(named={trick: model})


def test_the_shelf_holds_only_plain_names(tmp_path: Path, model: Path):
    for name in ("..hidden", "-x", "a b", "a\nb", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
    (tmp_path / "good").symlink_to(model)
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "a b.safetensors").write_bytes(b"")
    (tmp_path / "loras" / "ink.safetensors").symlink_to("/etc/none-such")
    shelf = Shelf(tmp_path, shipped=False)
    assert list(shelf.entries()) == ["good"], "a link is the operator's own word"
    assert shelf.loras() == {}
