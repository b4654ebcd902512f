"""What a client sends that is broken: an answer of 4xx, in words that show nothing of the machine.

CVE-2026-22778: an address in the text of an error; CVE-2026-73555: a path and a user's name.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from mindsd.app.server.application import create_app
from mindsd.app.server.service import Service
from tests.security.routes import Door, doors

INSIDE = re.compile(
    r"0x[0-9a-f]{6,}|/(?:root|home|usr|tmp|work|etc|opt|var)\b"
    r"|site-packages|\.py\b|Traceback|line \d",
    re.IGNORECASE,
)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=X"}


def part(name: str, content: bytes, file: str = "") -> bytes:
    named = f'; filename="{file}"' if file else ""
    head = f'--X\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", JSON),
    "no json": (b"{", JSON),
    "a list": (b"[]", JSON),
    "null": (b"null", JSON),
    "not utf-8": (b'{"prompt": "\xff\xfe"}', JSON),
    "half a pair": (b'{"prompt": "\\ud800", "model": "draws", "input": "\\ud800"}', JSON),
    "nul": (b'{"prompt": "a\\u0000b", "steps": 1, "model": "\\u0000"}', JSON),
    "nan": (b'{"prompt": "a", "guidance": NaN, "temperature": NaN}', JSON),
    "infinity": (b'{"prompt": "a", "guidance": 1e999, "temperature": -Infinity}', JSON),
    "a very long number": (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", JSON),
    "deep": (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON),
    "a path as a model": (b'{"prompt": "a", "model": "/etc/passwd"}', JSON),
    "a path upwards": (b'{"prompt": "a", "model": "..%2f..%2fetc"}', JSON),
    "an unknown field": (
        b'{"prompt": "a", "custom_pipeline": "x", "trust_remote_code": true}',
        JSON,
    ),
    "n": (b'{"prompt": "a", "n": 1000000, "messages": []}', JSON),
    "negative": (b'{"prompt": "a", "n": -1, "steps": -1, "max_tokens": -1}', JSON),
    "a word as a flag": (b'{"prompt": "a", "stream": 0}', JSON),
    "text": (b"prompt", {"content-type": "text/plain"}),
    "no type": (b'{"prompt": "a"}', {}),
    "an unknown charset": (b"{}", {"content-type": "application/json; charset=none-such"}),
    "a form without its end": (part("prompt", b"a"), FORM),
    "a form without a boundary": (b"--X", {"content-type": "multipart/form-data"}),
    "a form that is none": (b"\0\1\2", FORM),
    "a broken picture": (
        part("prompt", b"a") + part("image", b"\x89PNG\r\n\x1a\n\0\0", "a.png") + b"--X--\r\n",
        FORM,
    ),
    "a file by a path": (
        part("prompt", b"a") + part("image", b"x", "../../etc/passwd") + b"--X--\r\n",
        FORM,
    ),
    "many fields": (b"".join(part(f"f{i}", b"") for i in range(2000)) + b"--X--\r\n", FORM),
}


SAID = "<PIL.PngImagePlugin object at 0x7f3a12345678> in /home/user/secret.py"


@pytest.fixture(scope="module")
def known(hub) -> list[Door]:
    return [door for door in doors(create_app(Service(hub))) if door.method in ("POST", "PUT")]


def check(answer: httpx.Response, who: str) -> None:
    assert 400 <= answer.status_code < 500, f"{who}: {answer.status_code} {answer.text[:200]}"
    told: dict[str, Any] = answer.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}, who
    assert not INSIDE.search(answer.text), f"{who}: {answer.text}"
    assert len(answer.content) < 2000, who


@pytest.mark.parametrize("name", BODIES)
def test_a_broken_body_is_refused_in_plain_words_on_every_route(name: str, served, known):
    content, headers = BODIES[name]

    async def body(client: httpx.AsyncClient, service: Service) -> None:
        for door in known:
            path = door.at("x")
            answer = await client.request(door.method, path, content=content, headers=headers)
            check(answer, f"{door.method} {path}")
        assert (await client.get("/health")).status_code == 200 and service.taken == 0

    served(body)


@pytest.mark.parametrize(
    "field",
    ["prompt", "model", "size", "scheduler", "step_cache", "token_merge", "speed", "messages"],
)
@pytest.mark.parametrize("value", ["/etc/passwd", "C:\\Windows", "0x7ffdeadbeef0", {}, [[]], 1e308])
def test_values_of_the_wrong_kind_are_not_said_back_with_more(field, value, served, known):
    async def body(client: httpx.AsyncClient, service: Service) -> None:
        for door in known:
            sent = {"model": "none-such", "prompt": "a", field: value}
            answer = await client.request(
                door.method, door.at("x"), content=json.dumps(sent), headers=JSON
            )
            check(answer, f"{door.method} {door.path}")

    served(body)


def test_what_fails_within_is_told_in_fixed_words(served, monkeypatch):
    def failing(*_: object) -> None:
        raise ValueError(SAID)

    async def body(client: httpx.AsyncClient, service: Service) -> None:
        monkeypatch.setattr(service.hub, "loaded", failing)
        with capture_logs() as lines:
            answer = await client.get("/v1/models", headers={"X-Request-Id": "mine"})
        assert [str(line["exc_info"]) for line in lines if line["event"] == "failed"] == [SAID]
        assert answer.status_code == 500 and answer.headers["X-Request-Id"] == "mine"
        assert answer.json()["error"]["message"] == "the server failed; its log says why"

    served(body)
