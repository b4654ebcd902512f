"""What may be asked of an image."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mindsd.app.server.image_bodies import EditBody, ImageBody
from mindsd.config import PLAIN, SPEEDS, Acceleration
from mindsd.pipelines.parameters import MAX_SEED
from mindsd.stepcache.plan import StepCache
from mindsd.tokenmerge.plan import TokenMerge


def body(**fields: Any) -> ImageBody:
    return ImageBody.model_validate({"prompt": "a", **fields})


@pytest.mark.parametrize(
    "field, value",
    [
        ("prompt", "a" * 10_001),
        ("prompt", None),
        ("prompt", ""),
        ("prompt", " \n"),
        ("prompt", "<lora:ink>"),
        ("prompt", "a <lora:ink:much>"),
        ("model", "../etc"),
        ("n", 0),
        ("n", 11),
        ("n", "2"),
        ("n", True),
        ("size", "512"),
        ("size", "0x64"),
        ("size", "64x5000"),
        ("size", "64x٦٤"),
        ("quality", "best"),
        ("response_format", "url"),
        ("stream", 1),
        ("partial_images", 2),
        ("output_format", "gif"),
        ("output_compression", 50),
        ("background", "transparent"),
        ("steps", 1001),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("guidance", -0.1),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("step_cache", "skip:0"),
        ("token_merge", "much"),
        ("guidance_until", 0),
        ("loras", {"../ink": 1.0}),
        ("loras", {"ink": 11.0}),
        ("loras", {f"ink{i}": 1.0 for i in range(17)}),
        ("priority", 101),
        ("timeout", 0),
        ("strength", 0.5),
        ("options", {}),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        body(**{field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_fields_that_go_together():
    with pytest.raises(ValidationError, match="say one of the two"):
        body(quality="low", speed="fast")
    with pytest.raises(ValidationError, match="a png loses nothing"):
        body(output_format="png", output_compression=50)
    assert body(output_compression=100).encoding.quality is None
    assert body(stream=True, partial_images=3).partial_images == 3


def test_nothing_is_as_good_as_null():
    nulls = {name: None for name in ImageBody.model_fields if name != "prompt"}
    assert body(**nulls).model_dump() == body().model_dump()


def test_a_quality_is_a_speed_and_single_words_go_before_it():
    assert body().acceleration == body(quality="standard").acceleration == PLAIN
    assert body(quality="low").acceleration == SPEEDS["fast"]
    assert body(quality="medium").acceleration == SPEEDS["balanced"]
    assert body(quality="hd").acceleration == PLAIN
    own = body(speed="fast", step_cache="skip:2", token_merge="0.4", guidance_until=0.5)
    parts = StepCache.parse("skip:2"), TokenMerge.parse("0.4")
    assert own.acceleration == Acceleration(*parts, 0.5)


def test_the_parameters_of_every_image():
    given = body(
        n=2,
        size="64x48",
        seed=7,
        steps=3,
        guidance=2,
        negative_prompt="b",
        scheduler="Euler a",
        loras={"ink": 0.5},
        weighted=True,
    )
    first, second = given.asked()
    assert (first.seed, second.seed) == (7, 8)
    assert (first.width, first.height, first.steps, first.guidance) == (64, 48, 3, 2)
    assert first.scheduler == "EulerAncestralDiscreteScheduler"
    assert first.loras == (("ink", 0.5),) and first.weighted and first.negative_prompt == "b"
    assert body().asked()[0].width is body(size="auto").asked()[0].width is None
    assert body().asked()[0].seed != body().asked()[0].seed


def test_tags_of_the_prompt_are_adapters():
    [one] = body(prompt="a <lora:ink:0.8> circle <lora:pen>", loras={"ink": 0.25}).asked()
    assert (one.prompt, one.loras) == ("a circle", (("ink", 1.05), ("pen", 1.0)))


def test_files_are_as_asked():
    assert body().encoding.format == "png" and body().encoding.metadata
    own = body(output_format="webp", output_compression=0, metadata=False).encoding
    assert (own.format, own.quality, own.metadata) == ("webp", 1, False)


def test_a_form_says_the_same_in_texts():
    texts = {
        "prompt": "a",
        "n": "2",
        "strength": "0.5",
        "stream": "true",
        "partial_images": "1",
        "loras": {"ink": "0.5"},
    }
    read = EditBody.model_validate_strings(texts)
    assert (read.n, read.strength, read.stream, read.loras) == (2, 0.5, True, {"ink": 0.5})
    assert read.asked()[0].strength == 0.5


@pytest.mark.parametrize("field", ["n", "seed", "guidance", "strength", "stream", "timeout"])
@pytest.mark.parametrize("text", ["", "nan", "1e999", "0x10", "none", "1 2"])
def test_a_form_converts_only_what_is_a_value(field, text):
    with pytest.raises(ValidationError) as caught:
        EditBody.model_validate_strings({"prompt": "a", field: text})
    assert caught.value.errors()[0]["loc"][0] == field
