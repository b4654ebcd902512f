"""Answers to calls for images, in this process."""

from __future__ import annotations

import asyncio
import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from PIL import Image, ImageChops

from mindsd.app.picture_record import read_record
from mindsd.app.server.image_bodies import MAX_SIDE
from mindsd.pipelines.hub import Hub, HubOptions
from mindsd.pipelines.shelf import Shelf
from mindsd.weights.image_lora_file import NAMED
from tests.app.server.conftest import client_of
from tests.zoo.image_lora import save_lora

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
SMALL = {"prompt": "a", "size": "64x64", "steps": 2, "seed": 5}


def file_of(told: dict[str, Any], place: int = 0) -> bytes:
    return b64decode(told["data"][place]["b64_json"])


def picture(width: int = 64, height: int = 64) -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_an_answer_and_its_job(served):
    async def body(client, service):
        answer = await client.post(GENERATE, json=SMALL | {"n": 2})
        told = answer.json()
        assert answer.status_code == 200 and told["model"] == "draws" and told["created"] > 0
        assert [own["seed"] for own in told["data"]] == [5, 6] and "notices" not in told["data"][0]
        told.pop("data")
        assert told.items() >= {"size": "64x64", "quality": "auto", "output_format": "png"}.items()
        job = service.find(answer.headers["X-Job-Id"])
        assert job.state == "done" and job.kind == "image" and job.steps == [(2, 2), (2, 2)]

    served(body)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_files_say_how_they_were_made_unless_told_not_to(served, tmp_path: Path, format: str):
    async def body(client, service):
        asked = SMALL | {"output_format": format, "scheduler": "Euler a", "quality": "low"}
        for metadata in (True, False):
            told = (await client.post(GENERATE, json=asked | {"metadata": metadata})).json()
            file = tmp_path / f"{metadata}.{format}"
            file.write_bytes(file_of(told))
            with Image.open(file) as opened:
                assert opened.format == format.upper() and opened.size == (64, 64)
            record = read_record(file)
            assert (record is not None) == metadata
            if record is not None:
                own = record.parameters
                assert (own.prompt, own.seed, own.steps, own.width) == ("a", 5, 2, 64)
                assert own.scheduler == "EulerAncestralDiscreteScheduler"
                assert not own.acceleration.is_plain
                assert record.model == "draws" and len(record.fingerprint) == 16

    served(body)


def test_a_worse_file_is_smaller(served):
    async def body(client, service):
        sizes = []
        for quality in (100, 10):
            asked = SMALL | {"output_format": "jpeg", "output_compression": quality}
            sizes.append(len(file_of((await client.post(GENERATE, json=asked)).json())))
        assert sizes[1] < sizes[0] / 2

    served(body)


def test_what_the_model_does_not_read_is_said(served):
    async def body(client, service):
        asked = SMALL | {"negative_prompt": "b", "guidance": 1, "n": 2}
        for own in (await client.post(GENERATE, json=asked)).json()["data"]:
            assert own["notices"] == [
                "the negative prompt is not read at guidance 1; it takes guidance above 1"
            ]
        stream = await client.post(GENERATE, json=asked | {"stream": True})
        assert stream.text.count("is not read at guidance 1") == 2

    served(body)


def test_no_other_method_is_taken(served):
    async def body(client, service):
        for path in (GENERATE, EDIT):
            answer = await client.get(path)
            assert answer.status_code == 405 and answer.headers["Allow"] == "POST"
            assert answer.json()["error"]["code"] == "method_not_allowed"

    served(body)


def test_a_refusal_names_its_field_and_its_job(served):
    async def body(client, service):
        answer = await client.post(GENERATE, json=SMALL | {"size": "60x64"})
        error = answer.json()["error"]
        assert (
            answer.status_code == 400 and error["param"] == "size" and "64x64" in error["message"]
        )
        assert service.find(answer.headers["X-Job-Id"]).state == "failed"
        long = {"prompt": "é" * 10_000, "negative_prompt": "é" * 10_000, "output_format": "jpeg"}
        answer = await client.post(GENERATE, json=SMALL | long)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "output_format"
        answer = await client.post(GENERATE, json=SMALL | {"timeout": 0.05, "steps": 900})
        assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
        assert answer.headers["X-Job-Id"]

    served(body)


def test_priority_goes_to_the_engine(served):
    async def body(client, service):
        found: list[int] = []
        submit = service.hub.engine.submit
        service.hub.engine.submit = lambda body, need: (
            found.append(need.priority),
            submit(body, need),
        )[1]
        try:
            await client.post(GENERATE, json=SMALL | {"priority": 7})
            await client.post(GENERATE, json=SMALL)
        finally:
            del service.hub.engine.submit
        assert found == [7, 0]

    served(body)


def test_an_edit_has_the_pictures_size_or_the_one_that_is_said(served):
    async def body(client, service):
        async def sized(width: int, height: int, **fields: str) -> Any:
            files = {"image": ("a.png", picture(width, height))}
            fields = {"prompt": "a", "steps": "2", "strength": "1"} | fields
            return (await client.post(EDIT, data=fields, files=files)).json()

        assert (await sized(64, 48))["size"] == "64x48"
        assert (await sized(60, 48, size="64x64"))["size"] == "64x64"
        assert (await sized(60, 48))["error"]["message"].endswith("not 60x48; try 64x48")
        large = await sized(MAX_SIDE + 8, 8)
        assert large["error"]["param"] == "size" and str(MAX_SIDE) in large["error"]["message"]

    served(body)


def test_the_record_of_an_edit_tells_its_pictures(served, tmp_path: Path):
    async def body(client, service):
        fields = {"prompt": "a", "steps": "2", "strength": "0.5"}
        answer = await client.post(EDIT, data=fields, files={"image": ("a.png", picture())})
        (tmp_path / "a.png").write_bytes(file_of(answer.json()))

    served(body)
    record = read_record(tmp_path / "a.png")
    assert record is not None and record.parameters.strength == 0.5
    assert list(record.pictures) == ["image"] and len(record.pictures["image"]) == 64


@pytest.fixture
def studio(model: Path, tmp_path: Path):
    """A hub whose shelf has the adapters `ink` and `broken`."""
    shutil.copytree(model, tmp_path / "models" / "draws")
    loras = tmp_path / "models" / "loras"
    loras.mkdir()
    pipe = DiffusionPipeline.from_pretrained(model)
    shutil.move(save_lora(pipe, tmp_path / "ink", 1, ["unet"]) / NAMED, loras / "ink.safetensors")
    (loras / "broken.safetensors").write_bytes(b"\0" * 64)
    with Hub(Shelf(tmp_path / "models", shipped=False), HubOptions("cpu", "float32")) as hub:
        yield hub


def test_adapters_of_the_shelf_by_their_ids(studio: Hub, tmp_path: Path):
    async def run() -> None:
        async with client_of(studio) as (client, _):

            async def drawn(loras: dict[str, float]) -> Image.Image:
                answer = await client.post(GENERATE, json=SMALL | {"loras": loras})
                return Image.open(BytesIO(file_of(answer.json())))

            plain, inked, twice = await asyncio.gather(
                drawn({}), drawn({"ink": 1.0}), drawn({"ink": 1.0})
            )
            assert ImageChops.difference(plain, inked).getbbox() is not None
            assert ImageChops.difference(inked, twice).getbbox() is None
            tagged = await client.post(GENERATE, json=SMALL | {"prompt": "a <lora:ink>"})
            told = Image.open(BytesIO(file_of(tagged.json())))
            apart = np.asarray(ImageChops.difference(inked, told))
            assert apart.max() <= 1  # by rounding: it was drawn alone
            for name, code in (("oil", "unknown_lora"), ("broken", "wrong_lora")):
                answer = await client.post(GENERATE, json=SMALL | {"loras": {name: 1}})
                error = answer.json()["error"]
                assert (answer.status_code, error["param"], error["code"]) == (400, "loras", code)
                assert str(tmp_path) not in answer.text
            fields = {"prompt": "a", "steps": "2", "strength": "1", "loras[ink]": "0.5"}
            answer = await client.post(EDIT, data=fields, files={"image": ("a.png", picture())})
            assert answer.status_code == 200
            fields = {"prompt": "a <lora:oil:0.5>", "steps": "2"}
            answer = await client.post(EDIT, data=fields, files={"image": ("a.png", picture())})
            assert answer.json()["error"]["code"] == "unknown_lora"

    asyncio.run(run())
