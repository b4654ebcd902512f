"""A picture says how it was made, and what it says reads back."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mindsd.app.a1111 import read_text, write_text
from mindsd.app.png import Record, encode, read_record
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters

PICTURE = Image.new("RGB", (4, 3), "red")
FULL = ImageParameters(
    "a red circle",
    negative_prompt="blur, noise",
    steps=20,
    guidance=7.5,
    seed=7,
    width=128,
    height=64,
    strength=0.6,
    scheduler="EulerAncestralDiscreteScheduler",
    options={"eta": 0.5},
)
PROMPTS = [
    "a red circle",
    "",
    "zwei grüne Sterne",
    "红色的圆 ✨ above a ★",
    "two lines\nof prompt",
    'quoted: "yes", and: commas',
    "a\nNegative prompt: b\nSteps: 1, Sampler: DDIM, CFG scale: 2, Seed: 3",
]


def saved(tmp_path, content):
    file = tmp_path / "one.png"
    file.write_bytes(content)
    return file


def with_chunks(tmp_path, **chunks):
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    PICTURE.save(tmp_path / "one.png", pnginfo=info)
    return tmp_path / "one.png"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_was_written_reads_back(prompt, tmp_path):
    parameters = ImageParameters(prompt, negative_prompt=prompt or None, seed=2**63 - 1, steps=1)
    record = Record(parameters, "tiny-sd", "cpu", "float32", {"mindsd": "0.1.0", "torch": "2"})
    assert read_record(saved(tmp_path, encode(PICTURE, record))) == record


def test_all_fields_read_back(tmp_path):
    record = Record(FULL, "tiny-sd")
    assert read_record(saved(tmp_path, encode(PICTURE, record))) == record


def test_the_form_is_that_of_automatic1111(tmp_path):
    record = Record(FULL, "tiny-sd", versions={"mindsd": "0.1.0"})
    with Image.open(saved(tmp_path, encode(PICTURE, record))) as picture:
        assert picture.info["parameters"] == (
            "a red circle\n"
            "Negative prompt: blur, noise\n"
            "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 128x64, "
            "Denoising strength: 0.6, Model: tiny-sd, Version: mindsd 0.1.0"
        )
        assert json.loads(picture.info["mindsd"])["parameters"]["options"] == {"eta": 0.5}


@pytest.mark.parametrize(("prompt", "chunk"), [("a ball", b"tEXt"), ("a ★", b"iTXt")])
def test_unicode_goes_to_the_chunk_that_can_hold_it(prompt, chunk):
    content = encode(PICTURE, Record(ImageParameters(prompt)))
    assert chunk + b"parameters" in content


@pytest.mark.parametrize("prompt", PROMPTS[:-1])
def test_their_text_reads_back(prompt):
    asked = ImageParameters(prompt, negative_prompt="x\ny", steps=3, guidance=2.0, seed=1)
    assert read_text(write_text(asked, "a, b: c", "v")) == (asked, "a, b: c")


def test_text_of_other_tools_is_read(tmp_path):
    text = (
        "a fox\nNegative prompt: blur\nSteps: 25, Sampler: DPM++ 2M Karras, Schedule type: Karras, "
        'CFG scale: 7, Seed: 5, Size: 512x768, Model hash: 6ce0161689, Lora hashes: "a: 1, b: 2"'
    )
    record = read_record(with_chunks(tmp_path, parameters=text))
    assert record == Record(
        ImageParameters("a fox", "blur", steps=25, guidance=7.0, seed=5, width=512, height=768)
    )


@pytest.mark.parametrize(
    "chunks",
    [
        {},
        {"mindsd": "no json"},
        {"mindsd": "[1, 2]"},
        {"mindsd": "null"},
        {"mindsd": "[" * 100_000},
        {"mindsd": '{"parameters": {"prompt": 5}, "versions": {}}'},
        {"mindsd": '{"parameters": {"prompt": "a", "steps": -1}, "versions": {}}'},
        {"mindsd": '{"parameters": {"steps": 1}, "versions": {}}'},
        {"mindsd": '{"parameters": {"prompt": "a"}, "versions": 3}'},
        {"parameters": "a\nSteps: many, Seed: 1, CFG scale: 2"},
        {"parameters": 'a\nSteps: "\\x", Seed: 1, CFG scale: 2'},
        {"parameters": "a\nSteps: 5, Seed: 1, Size: big"},
        {"Software": "another"},
    ],
)
def test_odd_chunks_count_as_absent(chunks, tmp_path):
    assert read_record(with_chunks(tmp_path, **chunks)) is None


def test_fields_of_a_later_version_are_left_out(tmp_path):
    text = '{"parameters": {"prompt": "a", "new": 1}, "versions": {}}'
    assert read_record(with_chunks(tmp_path, mindsd=text)) == Record(ImageParameters("a"))


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be read as a picture"):
        read_record(saved(tmp_path, b"no picture"))


def test_reading_pictures_needs_no_torch():
    code = "import sys, mindsd.app.png; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
