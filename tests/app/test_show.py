"""`mindsd show` tells what files say, to people and to machines, and trusts none of it."""

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mindsd.app.picture_encoding import PNG, PictureEncoding
from mindsd.app.picture_record import Record
from mindsd.config import SPEEDS
from mindsd.pipelines.parameters import ImageParameters

PICTURE = Image.new("RGB", (4, 3), "red")
RECORD = Record(
    ImageParameters(
        "a red circle",
        "blur",
        steps=20,
        guidance=0.0,
        seed=0,
        width=128,
        height=64,
        scheduler="DPMSolverMultistepScheduler(use_karras_sigmas=True)",
        acceleration=SPEEDS["fast"].settled(flow=False),
        options={"eta": 0.5},
    ),
    "tiny-sd",
    "cpu",
    "float32",
    {"mindsd": "0.1.0", "torch": "2"},
)
LINES = """\
prompt: a red circle
negative_prompt: blur
steps: 20
guidance: 0.0
seed: 0
size: 128x64
sampler: DPM++ 2M Karras
scheduler: DPMSolverMultistepScheduler(use_karras_sigmas=True)
options: {"eta": 0.5}
step_cache: plan:11-1--1---1------1-----1,timed=1
model: tiny-sd
device: cpu
dtype: float32
versions: mindsd 0.1.0, torch 2
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "0001.png"
    path.write_bytes(PNG.encode(PICTURE, RECORD))
    return path


def silent(path):
    PICTURE.save(path)
    return path


def theirs(path, text):
    info = PngInfo()
    info.add_text("parameters", text)
    PICTURE.save(path, pnginfo=info)
    return path


def test_lines_where_stdout_is_no_terminal(file, mindsd):
    run = mindsd("show", file)
    assert (run.code, run.out, run.err) == (0, LINES, "")


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_other_formats_say_the_same(name, file, mindsd):
    file.write_bytes(PictureEncoding(name).encode(PICTURE, RECORD))
    assert mindsd("show", file).out == LINES


def test_json_is_an_object(file, mindsd):
    (told,) = mindsd("show", "--json", file).events
    assert told == {"path": str(file), **RECORD.as_json(), "unknown": {}}
    assert told["parameters"]["acceleration"] == SPEEDS["fast"].settled(flow=False).as_json()


def test_several_and_folders(file, mindsd):
    other = theirs(file.with_name("0002.png"), "a fox\nSteps: 2, Seed: 3, Size: 8x8, Clip skip: 2")
    silent(file.with_name("0003.png"))
    run = mindsd("show", file.parent)
    assert run.out == (
        f"path: {file}\n{LINES}\n"
        f"path: {other}\nprompt: a fox\nsteps: 2\nseed: 3\nsize: 8x8\nClip skip: 2\n\n"
    )
    assert run.err == f"mindsd: {file.with_name('0003.png')} does not say how it was made\n"
    assert run.code == 1
    told = mindsd("show", "--json", file.parent)
    assert told.code == 1 and [sorted(one)[0] for one in told.events] == ["attention"] * 2 + [
        "error"
    ]


def test_one_that_cannot_be_read_leaves_the_others(file, mindsd, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    run = mindsd("show", bad, file, tmp_path / "none.png")
    assert run.code == 2 and f"path: {file}\n{LINES}" in run.out
    assert len(run.err.splitlines()) == 2 and "cannot be read as a picture" in run.err


def test_without_a_picture(mindsd):
    run = mindsd("show")
    assert run.code == 2 and "Missing argument" in run.err


def test_a_table_on_a_terminal(file, mindsd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    out = mindsd("show", file).out
    assert "│" in out and "DPM++ 2M Karras" in out and "name: value" not in out


NASTY = "\x1b[2J\x1b]0;title\x07 \u202eb [red]c[/red] \x00 \x9b31m"


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_in_a_file_steers_the_terminal(terminal, file, mindsd, monkeypatch):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TERM", "dumb")  # rich itself then writes no escapes
    record = Record(ImageParameters(NASTY, options={NASTY: NASTY}), NASTY, versions={NASTY: NASTY})
    file.write_bytes(PNG.encode(PICTURE, record))
    theirs(file.with_name("0002.png"), f"{NASTY}\nSteps: 2, Seed: 3, Size: 8x8, {NASTY}: {NASTY}")
    out = mindsd("show", file.parent).out
    assert "[red]c[/red]" in out and "\\u202eb" in out and "\\x1b[2J" in out
    assert not set(out) & set("\x1b\x07\x00\x9b\u202e")


def test_a_line_break_makes_no_line_of_its_own(file, mindsd):
    file.write_bytes(PNG.encode(PICTURE, Record(ImageParameters("a\nseed: 5"))))
    assert mindsd("show", file).lines == ["prompt: a\\nseed: 5", "seed: 0"]


def test_json_is_plain_ascii(file, mindsd):
    file.write_bytes(PNG.encode(PICTURE, Record(ImageParameters(NASTY))))
    out = mindsd("show", "--json", file).out
    assert out.isascii() and out.removesuffix("\n").isprintable()
    assert json.loads(out)["parameters"]["prompt"] == NASTY
