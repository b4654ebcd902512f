"""The form of an edit."""

from __future__ import annotations

import socket
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image

from mindsd.app.server.edit_form import FORM
from mindsd.app.server.image_bodies import EditBody
from tests.app.server.live_server import Live

EDIT = "/v1/images/edits"


def picture() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_it_is_read_strictly(served):
    async def body(client, service):
        async def refused(fields: Any, files: Any) -> str:
            answer = await client.post(EDIT, data=fields, files=files)
            assert answer.status_code == 400, answer.text
            return answer.json()["error"]["param"]

        image = ("image", ("a.png", picture(), "image/png"))
        small = {"prompt": "a", "steps": "2"}
        assert await refused(small | {"n": "two"}, [image]) == "n"
        assert await refused(small | {"n": ["1", "2"]}, [image]) == "n"
        assert await refused(small | {"seed": ""}, [image]) == "seed"
        assert await refused(small | {"colour": "red"}, [image]) == "colour"
        assert await refused({"steps": "2"}, [image]) == "prompt"
        assert await refused(small | {"image": "a"}, [image]) == "image"
        assert await refused(small, [("mask", image[1])]) == "image"
        assert await refused(small, [image, ("image[]", image[1])]) == "image"
        assert await refused(small, [image, ("prompt", image[1])]) == "prompt"
        assert await refused(small | {"loras[ink]": "strong"}, [image]) == "loras.ink"
        assert await refused(small | {"loras": "ink"}, [image]) == "loras"
        assert await refused(small | {"loras": "x", "loras[ink]": "1"}, [image]) == "loras[ink]"
        answer = await client.post(EDIT, json={"prompt": "a"})
        assert answer.status_code == 400 and "multipart" in answer.json()["error"]["message"]
        answer = await client.post(
            EDIT, content=b"--", headers={"content-type": "multipart/form-data"}
        )
        assert answer.status_code == 400 and answer.json()["error"]["message"]
        assert service.jobs() == []

    served(body)


def test_its_document_has_every_field():
    schema = FORM["content"]["multipart/form-data"]["schema"]
    fields = {"image", "mask", *EditBody.model_fields} - {"loras"}
    assert set(schema["properties"]) == fields and schema["required"] == ["image", "prompt"]
    assert schema["properties"]["n"]["anyOf"] == [{"type": "integer", "minimum": 1, "maximum": 10}]


def test_who_goes_away_while_sending_it_leaves_nothing(live: Live):
    url = urlsplit(live.base_url)
    assert url.hostname is not None and url.port is not None
    with socket.create_connection((url.hostname, url.port)) as client:
        kind = "Content-Type: multipart/form-data; boundary=x"
        head = (
            f"POST {EDIT} HTTP/1.1\r\nHost: {url.netloc}\r\n{kind}\r\nContent-Length: 900\r\n\r\n"
        )
        client.sendall(head.encode() + b"--x\r\n")
    assert httpx.get(f"{live.api}/models").status_code == 200
    assert live.service.jobs() == [] and live.is_idle()
