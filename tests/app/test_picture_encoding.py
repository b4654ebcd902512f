"""Files of every format: what is in them, what cannot be, and what other tools read there."""

import io
from dataclasses import replace

import pytest
from PIL import Image
from sd_parsers import ParserManager
from sd_parsers.data import Generators

from mindsd.app.picture_encoding import FORMATS, PNG, PictureEncoding
from mindsd.app.picture_record import Record
from mindsd.app.samplers import SCHEDULES, scheduler_of
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters

ASKED = ImageParameters(
    "a red circle ★, on white",
    negative_prompt="blur, noise",
    steps=20,
    guidance=7.5,
    seed=2**40,
    width=32,
    height=24,
    scheduler=scheduler_of("DPM++ 2M Karras"),
)
RECORD = Record(ASKED, "tiny-sd", versions={"mindsd": "0.1.0"})
PICTURE = Image.linear_gradient("L").resize((32, 24)).convert("RGB")


def opened(content):
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


@pytest.mark.parametrize("name", FORMATS)
def test_another_tool_reads_how_a_picture_was_made(name):
    picture = opened(PictureEncoding(name).encode(PICTURE, RECORD))
    told = ParserManager().parse(picture)
    assert told is not None and told.generator == Generators.AUTOMATIC1111
    (sampler,) = told.samplers
    assert [prompt.value for prompt in sampler.prompts] == [ASKED.prompt]
    assert [prompt.value for prompt in sampler.negative_prompts] == [ASKED.negative_prompt]
    assert sampler.name == "DPM++ 2M" and sampler.model and sampler.model.name == "tiny-sd"
    said = {"scheduler": "Karras", "steps": "20", "cfg_scale": "7.5", "seed": str(2**40)}
    assert sampler.parameters == said
    assert told.metadata == {"Size": "32x24", "Version": "mindsd 0.1.0"}


@pytest.mark.parametrize("schedule", ["", *SCHEDULES])
def test_another_tool_finds_the_sampler_whatever_its_schedule(schedule):
    parameters = replace(ASKED, scheduler=scheduler_of("DPM++ 3M SDE", schedule))
    told = ParserManager().parse(opened(PNG.encode(PICTURE, Record(parameters))))
    assert told and [one.name for one in told.samplers] == ["DPM++ 3M SDE"]


@pytest.mark.parametrize("prompt", ["a ball", "a ★"])
def test_a_png_says_it_in_the_chunk_that_can_hold_it(prompt):
    content = PNG.encode(PICTURE, Record(ImageParameters(prompt)))
    assert (b"iTXt" if "★" in prompt else b"tEXt") + b"parameters" in content


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_said_without_metadata(name):
    silent = PictureEncoding(name, metadata=False).encode(PICTURE, RECORD)
    assert silent == PictureEncoding(name).encode(PICTURE)
    picture = opened(silent)
    assert "parameters" not in picture.info and not picture.getexif()
    assert b"circle" not in silent and b"mindsd" not in silent


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_what_it_is_called(name):
    encoding = PictureEncoding(name)
    picture = opened(encoding.encode(PICTURE))
    assert picture.format == FORMATS[name][0] and picture.size == PICTURE.size
    assert Image.registered_extensions()[f".{encoding.ending}"] == picture.format


def test_a_png_loses_nothing():
    assert opened(PNG.encode(PICTURE, RECORD)).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_quality_is_what_costs_bytes(name):
    sizes = [len(PictureEncoding(name, quality).encode(PICTURE)) for quality in (10, 95)]
    assert sizes[0] < sizes[1] == len(PictureEncoding(name).encode(PICTURE))


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_pictures_of_other_modes_are_written_too(mode):
    for name in FORMATS:
        assert opened(PictureEncoding(name).encode(PICTURE.convert(mode))).size == PICTURE.size


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"format": "gif"}, "unknown format 'gif'; choose png, jpeg, webp"),
        ({"quality": 80}, "--quality is for --format jpeg or webp"),
        ({"format": "jpeg", "quality": 0}, "--quality must be 1 to 100, got 0"),
        ({"format": "webp", "quality": 101}, "--quality must be 1 to 100, got 101"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, words):
    with pytest.raises(RequestError, match=words):
        PictureEncoding(**asked)


@pytest.mark.parametrize(("name", "most"), [("jpeg", 65_500), ("webp", 16_383)])
def test_pictures_that_a_format_cannot_hold_are_refused(name, most):
    encoding = PictureEncoding(name)
    for width in (most, most + 1):
        record = replace(RECORD, parameters=replace(ASKED, width=width))
        picture = Image.new("RGB", (width, 1))
        if width == most:
            encoding.check(record)
            assert encoding.encode(picture)
            continue
        with pytest.raises(RequestError, match=f"{name} has at most {most} pixels a side"):
            encoding.check(record)
        with pytest.raises((ValueError, OSError)):
            encoding.encode(picture)


def test_a_jpeg_cannot_say_as_much():
    encoding = PictureEncoding("jpeg")
    fits = False
    for length in range(21_300, 21_900, 25):  # where the whole segment grows full
        record = replace(RECORD, parameters=replace(ASKED, prompt="a" * length))
        try:
            encoding.check(record)
        except RequestError as error:
            assert "fits in 65533 bytes" in str(error) and fits
            with pytest.raises(ValueError, match="too long"):
                encoding.encode(PICTURE, record)
            PictureEncoding("webp").check(record)
            replace(encoding, metadata=False).check(record)
            return
        assert encoding.encode(PICTURE, record)
        fits = True
    pytest.fail("no prompt was too long")
