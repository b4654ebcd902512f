"""OpenAI's own client draws: what it gets is what Python gets."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from io import BytesIO
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, ImageChops

from mindsd.app.server.service import Service
from mindsd.pipelines.hub import Hub
from tests.app.server.live_server import eventually, live_server

OURS = {"steps": 4, "seed": 7}


@pytest.fixture
def client(live):
    with openai.OpenAI(base_url=live.api, api_key="none", max_retries=0) as made:
        yield made


def opened(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(BytesIO(b64decode(text)))


def png(picture: Image.Image) -> tuple[str, bytes, str]:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return "picture.png", buffer.getvalue(), "image/png"


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Within a level of 255: whoever comes late is drawn in other company, which rounds."""
    apart = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))
    return int(apart.max()) <= 1


def test_images_are_those_of_python(client: openai.OpenAI, hub: Hub):
    told = client.images.generate(prompt="a fox", model="draws", n=2, size="64x48", extra_body=OURS)
    with hub.lease("draws") as resident:
        expected = resident.text_to_image(["a fox"] * 2, steps=4, seed=7, width=64, height=48)
    assert told.data is not None and told.size == "64x48" and told.output_format == "png"
    drawn = [opened(own.b64_json) for own in told.data]
    assert [own.model_dump()["seed"] for own in told.data] == [7, 8]
    assert all(alike(a, b) for a, b in zip(drawn, expected.images, strict=True))
    assert not alike(*drawn)


def test_a_stream_shows_images_on_the_way_and_ends_with_the_image(client: openai.OpenAI):
    asked: dict[str, Any] = {"prompt": "a fox", "size": "64x64", "extra_body": OURS}
    whole = client.images.generate(**asked)
    stream = client.images.generate(**asked, stream=True, partial_images=2)
    events = list(stream)
    assert stream.response.headers["X-Job-Id"]
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None]
    pictures = [opened(event.b64_json) for event in events]
    assert {picture.size for picture in pictures} == {(64, 64)} and not same(*pictures[:2])
    assert whole.data is not None and same(pictures[2], opened(whole.data[0].b64_json))
    assert events[2].type == "image_generation.completed" and events[2].usage.total_tokens == 0
    assert (events[2].size, events[2].output_format) == ("64x64", "png")


def test_an_edit_is_image_to_image(client: openai.OpenAI, hub: Hub):
    picture = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    told = client.images.edit(
        image=png(picture), prompt="a fox", n=1, extra_body={**OURS, "strength": 0.5}
    )
    with hub.lease("draws") as resident:
        expected = resident.image_to_image("a fox", picture, steps=4, seed=7, strength=0.5)
    assert told.data is not None and told.size == "64x48"
    assert same(opened(told.data[0].b64_json), expected.images[0])


def test_an_edit_with_a_mask_is_inpainting(client: openai.OpenAI, hub: Hub):
    picture = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    white = Image.new("L", (64, 64))
    white.paste(255, (0, 0, 32, 64))
    transparent = Image.new("RGBA", (64, 64), "white")
    transparent.putalpha(Image.eval(white, lambda value: 255 - value))
    with hub.lease("draws") as resident:
        expected = resident.inpaint("a fox", picture, white, steps=4, seed=7).images[0]
    for mask in (white, transparent):
        told = client.images.edit(
            image=[png(picture)], mask=png(mask), prompt="a fox", extra_body=OURS
        )
        assert told.data is not None and same(opened(told.data[0].b64_json), expected)


def test_an_edit_streams(client: openai.OpenAI):
    picture = png(Image.new("RGB", (64, 64), "red"))
    stream = client.images.edit(
        image=picture, prompt="a", stream=True, partial_images=1, extra_body={**OURS, "strength": 1}
    )
    assert [event.type for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_what_is_wrong_raises_the_clients_own_errors(client: openai.OpenAI):
    picture = png(Image.new("RGB", (60, 64)))
    generate, edit = client.images.generate, client.images.edit
    wrong: list[tuple[Any, str, dict[str, Any]]] = [
        (generate, "size", {"size": "60x64"}),
        (generate, "size", {"size": "60x64", "stream": True}),
        (generate, "response_format", {"response_format": "url"}),
        (generate, "n", {"n": 11}),
        (generate, "guidance", {"extra_body": {"guidance": -1}}),
        (generate, "scheduler", {"extra_body": {"scheduler": "Euler z"}}),
        (generate, "loras", {"extra_body": {"loras": {"ink": 1}}}),
        (generate, "model", {"model": "writes"}),
        (edit, "size", {"image": picture}),
        (edit, "image", {"image": ("a.png", b"GIF89a")}),
        (edit, "image", {"image": [picture, picture]}),
        (edit, "strength", {"image": picture, "extra_body": {"strength": 1.5}}),
        (edit, "markup", {"image": picture, "markup": picture}),
    ]
    for call, param, fields in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            call(**{"prompt": "a", **fields})
        assert caught.value.param == param, fields
    assert "64x64" in _message(client, image=picture)
    with pytest.raises(openai.NotFoundError):
        generate(prompt="a", model="draw")


def _message(client: openai.OpenAI, **fields: Any) -> str:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(prompt="a", **fields)
    return caught.value.message


def test_too_much_is_a_rate_limit(hub: Hub):
    with live_server(hub, requests=2) as live:
        with openai.OpenAI(base_url=live.api, api_key="none", max_retries=0) as client:
            stream = client.images.generate(prompt="a", stream=True, extra_body={"steps": 900})
            with pytest.raises(openai.RateLimitError) as caught:
                client.images.generate(prompt="a", n=2, size="64x64")
            assert caught.value.response.headers["Retry-After"] == "1"
            stream.close()
            eventually(live.is_idle)


def test_many_at_once_each_get_their_own(live):
    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=live.api, api_key="none", max_retries=0) as client:

            async def one(seed: int) -> Any:
                more = {"steps": 3, "seed": seed}
                return await client.images.generate(prompt="a", size="64x64", extra_body=more)

            return await asyncio.gather(*(one(seed) for seed in range(8)))

    told = asyncio.run(ask())
    assert [own.data[0].seed for own in told] == list(range(8))
    assert len({own.data[0].b64_json for own in told}) == 8
    service: Service = live.service
    assert service.taken == 0
