"""A picture says how it was made, and what it says reads back."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mindsd.app.picture_encoding import PNG, PictureEncoding
from mindsd.app.picture_record import Record, read_record
from mindsd.config import SPEEDS
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
    acceleration=SPEEDS["fast"],
    loras=(("ink", 0.8), ("fox", -1.0)),
    weighted=True,
    options={"eta": 0.5, "sizes": [1, 2]},
)
WHOLE = Record(
    FULL,
    "tiny-sd",
    "cpu",
    "float32",
    {"mindsd": "0.1.0", "torch": "2"},
    attention="off",
    fingerprint="0123456789abcdef",
    pictures={"image": "ab" * 32},
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
ENCODINGS = [PNG, PictureEncoding("jpeg"), PictureEncoding("webp", 80)]


def saved(tmp_path, content):
    file = tmp_path / "one.picture"
    file.write_bytes(content)
    return file


def with_chunks(tmp_path, **chunks):
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    PICTURE.save(tmp_path / "one.png", pnginfo=info)
    return tmp_path / "one.png"


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: one.format)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_was_written_reads_back(prompt, encoding, tmp_path):
    parameters = ImageParameters(prompt, negative_prompt=prompt or None, seed=2**63 - 1, steps=1)
    record = replace(WHOLE, parameters=parameters)
    assert read_record(saved(tmp_path, encoding.encode(PICTURE, record))) == record


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: one.format)
def test_every_field_reads_back(encoding, tmp_path):
    plain = ImageParameters("a red circle")
    same = [
        one.name for one in fields(plain) if getattr(plain, one.name) == getattr(FULL, one.name)
    ]
    assert same == ["prompt"]  # a field that is new belongs into FULL
    assert read_record(saved(tmp_path, encoding.encode(PICTURE, WHOLE))) == WHOLE


def test_what_json_has_no_words_for_is_told_all_the_same():
    record = Record(ImageParameters("a", options={"callback": print, "pair": (1, 2)}))
    told = json.loads(record.as_texts().ours or "")["parameters"]["options"]
    assert told == {"callback": str(print), "pair": [1, 2]}


def test_their_text_is_read_where_ours_is_not(tmp_path):
    text = "a fox\nSteps: 25, Sampler: Euler, CFG scale: 7, Seed: 5, Model: xl, Clip skip: 2"
    expected = Record(
        ImageParameters(
            "a fox", steps=25, guidance=7.0, seed=5, scheduler="EulerDiscreteScheduler"
        ),
        "xl",
        unknown={"Clip skip": "2"},
    )
    assert read_record(with_chunks(tmp_path, parameters=text)) == expected
    assert read_record(with_chunks(tmp_path, parameters=text, mindsd="torn")) == expected


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
        {"mindsd": '{"parameters": {"prompt": "a", "loras": 5}, "versions": {}}'},
        {"mindsd": '{"parameters": {"prompt": "a", "acceleration": []}, "versions": {}}'},
        {"mindsd": '{"parameters": {"steps": 1}, "versions": {}}'},
        {"mindsd": '{"parameters": {"prompt": "a"}, "versions": 3}'},
        {"mindsd": '{"parameters": {"prompt": "a"}, "versions": {}, "pictures": 3}'},
        {"parameters": "a\nSteps: many, Seed: 1, CFG scale: 2"},
        {"parameters": ""},
        {"Software": "another"},
    ],
)
def test_odd_texts_count_as_absent(chunks, tmp_path):
    assert read_record(with_chunks(tmp_path, **chunks)) is None


def test_fields_of_a_later_version_are_left_out(tmp_path):
    text = '{"parameters": {"prompt": "a", "new": 1}, "versions": {}, "newer": 2}'
    assert read_record(with_chunks(tmp_path, mindsd=text)) == Record(ImageParameters("a"))


def test_reading_records_needs_no_torch():
    code = "import sys, mindsd.app.picture_record; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
