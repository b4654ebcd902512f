"""Prompts become files, and what is told about it goes where it should."""

import json
import shutil

import pytest
from PIL import Image

from mindsd.app.options import Order
from mindsd.app.picture_record import read_record
from mindsd.config import SPEEDS
from mindsd.errors import OutputError
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.weights.defaults import DEFAULTS

SMALL = ("--steps", 2, "--size", "32x32", "--seed", 7)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def generate(mindsd, model, out):
    def run(*arguments):
        return mindsd("generate", "--model", model, "-o", out, *SMALL, *arguments)

    return run


def records(run):
    found = [read_record(path) for path in run.lines]
    assert all(found)
    return [record for record in found if record]


def test_every_prompt_so_many_times(generate, out):
    run = generate("a red circle", "zwei grüne ★", "-n", 2, "--quiet")
    assert (run.code, run.err) == (0, "")
    assert run.lines == [str(out / f"000{number}.png") for number in (1, 2, 3, 4)]
    asked = [record.parameters for record in records(run)]
    assert [one.prompt for one in asked] == ["a red circle"] * 2 + ["zwei grüne ★"] * 2
    assert [one.seed for one in asked] == [7, 8, 9, 10]


def test_the_pixels_are_the_pipelines(generate, model):
    run = generate("a red circle", "a blue square", "--quiet")
    with TextToImage.load(model) as pipeline:
        prompts = ["a red circle", "a blue square"]
        images = pipeline(prompts, steps=2, width=32, height=32, seed=7).images
    for path, image in zip(run.lines, images, strict=True):
        with Image.open(path) as written:
            assert written.convert("RGB").tobytes() == image.tobytes()


def test_the_models_own_choices_are_recorded(mindsd, model, out):
    run = mindsd("generate", "a", "--model", model, "-o", out, "--steps", 1, "--quiet")
    (record,) = records(run)
    asked = record.parameters
    assert (asked.steps, asked.guidance, asked.width, asked.height) == (1, 7.5, 32, 32)
    assert asked.scheduler == "DDIMScheduler" and asked.seed < 2**32
    assert (record.model, record.device, record.dtype) == ("thin-sd", "cpu", "float32")
    assert set(record.versions) == {"mindsd", "torch", "diffusers"}


def test_the_folders_own_choices_are_recorded(mindsd, model, out, tmp_path):
    own = shutil.copytree(model, tmp_path / "own")
    (own / DEFAULTS).write_text('{"steps": 1, "guidance": 2.5, "options": {"eta": 0.5}}')
    run = mindsd("generate", "a", "--model", own, "-o", out, "--quiet")
    (record,) = records(run)
    asked = record.parameters
    assert (asked.steps, asked.guidance, asked.options) == (1, 2.5, {"eta": 0.5})


def test_what_is_recorded_draws_the_same_image_again(generate):
    first = generate("a", "--scheduler", "euler a", "--negative", "b", "--quiet")
    (record,) = records(first)
    asked = record.parameters
    assert asked.scheduler == "EulerAncestralDiscreteScheduler"
    again = generate(
        asked.prompt,
        *("--negative", asked.negative_prompt, "--scheduler", asked.scheduler),
        *("--guidance", asked.guidance, "--quiet"),
    )
    pixels = [Image.open(run.lines[0]).tobytes() for run in (first, again)]
    assert pixels[0] == pixels[1] and first.lines != again.lines


def test_plain_lines_when_stderr_is_no_terminal(generate):
    run = generate("a red circle", "-n", 3)
    assert run.code == 0 and len(run.lines) == 3
    told = run.err.splitlines()
    assert told[0].startswith("loading ") and told[1].startswith("loaded thin-sd in ")
    assert told[-1].startswith("3 images in ") and "\x1b" not in run.err


def test_json_tells_all_and_nothing_else(generate, out):
    run = generate("a", "-n", 2, "--json", "--preview-every", 1)
    assert (run.code, run.err) == (0, "")
    kinds = [event["event"] for event in run.events]
    assert kinds[:2] == ["loading", "loaded"] and kinds[-1] == "done"
    for image, seed in ((1, 7), (2, 8)):
        mine = [event for event in run.events if event.get("image") == image]
        assert [event["event"] for event in mine if event["event"] != "preview"] == [
            *("queued", "started", "step", "step", "image")
        ]
        assert {event["seed"] for event in mine} == {seed}
        assert mine[-1]["path"] == str(out / f"000{image}.png") and mine[-1]["seconds"] > 0
    last = run.events[-1]
    assert (last["images"], last["written"], last["failed"], last["cancelled"]) == (2, 2, 0, False)


def test_previews_are_off_unless_asked_for(generate, out):
    generate("a")
    assert [path.name for path in out.iterdir()] == ["0001.png"]
    run = generate("a", "--preview-every", 1, "--json")
    previews = [event["path"] for event in run.events if event["event"] == "preview"]
    assert previews == [str(out / "preview-0001.png")] * 2
    assert {path.name for path in out.iterdir()} == {"0001.png", "0002.png", "preview-0001.png"}
    with Image.open(previews[0]) as picture:
        assert max(picture.size) <= 32


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "picture.png"
    Image.new("RGB", (48, 32), "red").save(file)
    return file


def test_a_picture_is_drawn_anew(mindsd, model, out, picture):
    asked = ("--image", picture, "--strength", 0.5, "--steps", 4, "--model", model, "-o", out)
    run = mindsd("generate", "a", *asked, "--quiet")
    (record,) = records(run)
    assert run.code == 0 and record.parameters.strength == 0.5
    with Image.open(run.lines[0]) as image:
        assert image.size == (48, 32)


def test_a_masked_part_is_drawn_anew(mindsd, model, out, picture, tmp_path):
    mask = tmp_path / "mask.png"
    Image.new("L", (48, 32), 255).save(mask)
    asked = ("--image", picture, "--mask", mask, "--steps", 2, "--model", model, "-o", out)
    run = mindsd("generate", "a", *asked, "--quiet")
    assert (run.code, len(run.lines)) == (0, 1)


@pytest.mark.parametrize(("name", "ending"), [("jpeg", "jpg"), ("webp", "webp")])
def test_files_of_another_format(generate, out, name, ending):
    run = generate("a ★", "--format", name, "--quality", 80, "--quiet")
    assert run.lines == [str(out / f"0001.{ending}")]
    (record,) = records(run)
    assert record.parameters.prompt == "a ★" and record.fingerprint
    bare = generate("a ★", "--format", name, "--no-metadata", "--quiet")
    assert read_record(bare.lines[0]) is None


def test_what_a_jpeg_cannot_say_is_refused_before_drawing(generate, out):
    run = generate("word " * 5000, "--format", "jpeg", "--quiet")
    assert run.code == 2 and "use --format png or webp, or --no-metadata" in run.err
    assert run.lines == [] and not list(out.iterdir())


def fail_seed(monkeypatch, seed):
    """Let the image of this seed fail where its body begins."""
    submit = TextToImage.submit

    def submit_or_fail(self, parameters, **rest):
        if parameters.seed != seed:
            return submit(self, parameters, **rest)

        def body(request):
            raise ValueError("a part\nis broken")

        return self.engine.submit(body)

    monkeypatch.setattr(TextToImage, "submit", submit_or_fail)


def test_one_that_fails_leaves_the_others(generate, monkeypatch):
    fail_seed(monkeypatch, 8)
    run = generate("a", "-n", 3, "--quiet")
    assert (run.code, len(run.lines)) == (1, 2)
    assert run.err == "mindsd: image 2 (seed 8) failed: ValueError: a part is broken\n"


def test_one_that_fails_is_an_event(generate, monkeypatch):
    fail_seed(monkeypatch, 7)
    run = generate("a", "--json")
    (failed,) = [event for event in run.events if event["event"] == "failed"]
    assert failed["reason"] == "ValueError: a part is broken" and run.code == 1
    assert run.events[-1]["failed"] == 1


def test_a_disk_that_fills_tells_what_was_saved(generate, monkeypatch, out):
    from mindsd.app.output import OutputFolder

    add = OutputFolder.add

    def add_twice(self, content, ending):
        if len(list(out.iterdir())) == 2:
            raise OutputError(f"{out} cannot be written (No space left on device)")
        return add(self, content, ending)

    monkeypatch.setattr(OutputFolder, "add", add_twice)
    run = generate("a", "-n", 4, "--quiet")
    said = (
        f"mindsd: {out} cannot be written (No space left on device); 2 of 4 images were written\n"
    )
    assert (run.code, run.err, len(run.lines)) == (2, said, 2)


def test_more_images_than_are_kept_in_hand(generate, monkeypatch):
    monkeypatch.setattr("mindsd.app.drawing.IN_HAND", 2)
    run = generate("a", "-n", 5, "--json")
    assert run.code == 0 and run.events[-1]["written"] == 5


def test_a_prompt_that_is_cut_is_told_of(generate):
    run = generate("word " * 30, "--not-weighted")
    assert "note on image 1: the prompt has" in run.err
    assert "the prompt has" not in generate("word " * 30).err  # as it is read window by window


def test_a_seed_of_minus_one_is_any(model):
    seeds = {Order(("a",), model=str(model), seed=-1).asked[0].seed for _ in range(2)}
    assert len(seeds) == 2 and -1 not in seeds


def test_flags_are_the_fields_of_an_order(mindsd):
    from dataclasses import fields
    from inspect import signature

    from mindsd.app.commands.generate import generate

    flags = set(signature(generate).parameters)
    own = {field.name for field in fields(Order)}
    assert flags - own == {"context", "source", "output", "as_json", "quiet"}
    assert own - flags == {"repeats"}


def test_error_events_are_json_too(mindsd, model):
    run = mindsd("generate", "a", "--model", model, "--steps", 0, "--json")
    (event,) = map(json.loads, run.lines)
    assert event["event"] == "error" and event["error"] == "RequestError" and run.code == 2


def test_an_acceleration_is_used_and_recorded(mindsd, model, tmp_path):
    asked = ("generate", "a", "-m", model, "--steps", 12, "--size", "32x32", "--seed", 1, "-q")
    for name, more in {
        "plain": (),
        "lossless": ("--speed", "lossless"),
        "fast": ("--speed", "fast"),
        "own": ("--speed", "fast", "--step-cache", "interval:2", "--guidance-until", 0.5),
    }.items():
        assert mindsd(*asked, "-o", tmp_path / name, *more).code == 0
    files = {name: tmp_path / name / "0001.png" for name in ("plain", "lossless", "fast", "own")}
    told = {name: read_record(file) for name, file in files.items()}
    accelerations = {n: r.parameters.acceleration.as_json() for n, r in told.items() if r}
    assert accelerations == {
        "plain": {},
        "lossless": {},
        "fast": SPEEDS["fast"].settled(flow=False).as_json(),
        "own": {"step_cache": "interval:2", "guidance_until": 0.5},
    }
    drawn = {name: Image.open(file).tobytes() for name, file in files.items()}
    assert drawn["plain"] == drawn["lossless"] and len(set(drawn.values())) == 3
