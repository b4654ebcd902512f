"""`mindsd generate --from` draws a picture again, byte for byte, or says why it cannot."""

import shutil
from dataclasses import replace
from hashlib import sha256

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

from mindsd.app.options import Order
from mindsd.app.picture_encoding import PNG
from mindsd.app.picture_record import Record, read_record
from mindsd.app.repetition import repeat
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.autoencoders import tiny_autoencoder

SMALL = ("--steps", 3, "--size", "32x32", "--seed", 7)


@pytest.fixture
def draw(mindsd, tmp_path, model):
    """Draw into a folder of its own; the run and the only picture."""

    def run(*arguments):
        folder = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        told = mindsd("generate", "--model", model, "-o", folder, *arguments)
        return told, folder / "0001.png"

    return run


def saved(path, record):
    path.write_bytes(PNG.encode(Image.new("RGB", (8, 8)), record))
    return path


@pytest.mark.parametrize(
    "asked",
    [
        (),
        ("--negative", "blur", "--guidance", 3, "--scheduler", "Euler a"),
        ("--scheduler", "DPM++ 2M SDE Karras"),
        ("--dtype", "bfloat16", "--attention", "off"),
        ("--steps", 12, "--speed", "fast", "--guidance-until", 0.5),
    ],
    ids=lambda asked: " ".join(map(str, asked)) or "plain",
)
def test_the_same_bytes_come_out(asked, draw):
    first, picture = draw("a red ★", *SMALL, *asked, "-q")
    again, copy = draw("--from", picture)
    assert (first.code, again.code) == (0, 0) and "may differ" not in again.err
    assert copy.read_bytes() == picture.read_bytes()
    other, another = draw("--from", picture, "--seed", 8, "-q")
    assert other.code == 0 and another.read_bytes() != picture.read_bytes()


def test_the_same_bytes_come_out_of_given_pictures(draw, tmp_path):
    given, mask = tmp_path / "given.png", tmp_path / "mask.png"
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(given)
    Image.new("L", (32, 32), 255).save(mask)
    pictures = ("--image", given, "--mask", mask)
    _, picture = draw("a", *SMALL, *pictures, "--strength", 0.7, "-q")
    record = read_record(picture)
    assert record and record.pictures == {
        "image": sha256(given.read_bytes()).hexdigest(),
        "mask_image": sha256(mask.read_bytes()).hexdigest(),
    }
    alone, _ = draw("--from", picture, "-q")
    assert alone.code == 2 and f"SHA-256 {record.pictures['image']}" in alone.err
    assert "which it does not hold; give it with --image" in alone.err
    half, _ = draw("--from", picture, "--image", given, "-q")
    assert half.code == 2 and "give it with --mask" in half.err
    again, copy = draw("--from", picture, *pictures)
    assert copy.read_bytes() == picture.read_bytes() and "may differ" not in again.err
    other, another = draw("--from", picture, "--image", mask, "--mask", mask)
    assert another.is_file()
    assert "the image may differ: another picture is given with --image\n" in other.err


def test_what_is_said_stands_in_place_of_the_record(draw):
    _, picture = draw("a", *SMALL, "--negative", "b", "--speed", "fast", "-q")
    _, other = draw("--from", picture, "c", "--steps", 2, "--step-cache", "interval:2", "-q")
    before, after = read_record(picture), read_record(other)
    assert before and after
    asked = replace(
        before.parameters, prompt="c", steps=2, acceleration=after.parameters.acceleration
    )
    assert after.parameters == asked
    assert asked.acceleration.as_json() == {"step_cache": "interval:2"}


def test_more_images_of_it_count_up(mindsd, draw, tmp_path, model):
    _, picture = draw("a", *SMALL, "-q")
    run = mindsd("generate", "-m", model, "--from", picture, "-n", 2, "-o", tmp_path / "more", "-q")
    records = [read_record(path) for path in run.lines]
    assert [record and record.parameters.seed for record in records] == [7, 8]


def test_a_config_file_does_not_stand_in_place_of_the_record(draw, monkeypatch):
    _, picture = draw("a", *SMALL, "-q")
    monkeypatch.setenv("MINDSD_GENERATE_STEPS", "2")
    _, drawn = draw("a", "-q", "--size", "32x32")
    told = read_record(drawn)
    assert told and told.parameters.steps == 2  # the variable counts
    _, again = draw("--from", picture, "-q")
    assert again.read_bytes() == picture.read_bytes()


def test_every_field_of_the_record_is_kept(tmp_path, model):
    options = {"eta": 0.5}
    asked = ImageParameters("a", seed=3, loras=(("ink", 0.5),), weighted=True, options=options)
    file = saved(tmp_path / "a.png", Record(asked, "x", device="cpu"))
    order = Order(**repeat(file, {"model": str(model)}))
    assert order.asked == [asked] and (order.device, order.dtype) == ("cpu", "auto")


def test_a_place_that_is_said_brings_its_own_dtype(tmp_path, model):
    record = Record(ImageParameters("a"), "tiny-sd", "cuda", "float16", attention="off")
    file = saved(tmp_path / "a.png", record)
    there, here = repeat(file, {}), repeat(file, {"device": "cpu"})
    assert (there["device"], there["dtype"], there["attention"]) == ("cuda", "float16", "off")
    assert here["device"] == "cpu" and "dtype" not in here


def test_where_it_was_drawn_is_not_here(draw, tmp_path):
    file = saved(tmp_path / "a.png", Record(ImageParameters("a"), "thin-sd", "npu", "float16"))
    run, _ = draw("--from", file, "-q")
    assert run.code == 2 and "device 'npu' is not usable here" in run.err
    assert "the image to repeat was drawn there: say --device" in run.err


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "does not say how it was made"),
        (Record(ImageParameters("a"), "big"), "drawn by big, which is not embedded; say where"),
        (Record(ImageParameters("a")), "drawn by an unknown model; say where the model's folder"),
        (Record(ImageParameters("a", strength=0.5), "tiny-sd"), "drawn from a picture, which"),
        (Record(ImageParameters("a"), "\x1b[2J"), r"drawn by \\x1b\[2J, which"),
    ],
)
def test_what_cannot_be_repeated(record, words, tmp_path):
    with pytest.raises(RequestError, match=words):
        repeat(saved(tmp_path / "a.png", record), {})


def test_a_picture_that_is_not_there(mindsd, tmp_path):
    run = mindsd("generate", "--from", tmp_path / "none.png", "-o", tmp_path / "out")
    assert run.code == 2 and "No such file" in run.err and not (tmp_path / "out").exists()


def test_another_model_of_the_same_name_is_refused(draw, mindsd, model, tmp_path):
    _, picture = draw("a", *SMALL, "-q")
    other = shutil.copytree(model, tmp_path / "other" / model.name)
    (weights,) = (other / "unet").glob("*.safetensors")
    save_file({name: -value for name, value in load_file(weights).items()}, weights)
    asked = ("generate", "--from", picture, "--model", other, "-o", tmp_path / "there")
    run = mindsd(*asked)
    assert run.code == 2 and f"drawn by another model of the name {model.name}" in run.err
    forced = mindsd(*asked, "--force")
    assert forced.code == 0 and "the image may differ: weights" in forced.err


def test_another_model_by_name_is_told_of(draw, mindsd, model, tmp_path):
    _, picture = draw("a", *SMALL, "-q")
    other = shutil.copytree(model, tmp_path / "other-sd")
    run = mindsd("generate", "--from", picture, "--model", other, "-o", tmp_path / "there")
    assert run.code == 0
    assert f"the image may differ: model {model.name}, now other-sd\n" in run.err


def test_another_autoencoder_is_named_and_has_to_be_given(draw, mindsd, tmp_path):
    folder = tmp_path / "taesd"
    tiny_autoencoder().save_pretrained(folder)
    first, picture = draw("a", *SMALL, "--vae", folder, "-q")
    record = read_record(picture)
    assert first.code == 0 and record and record.vae == "taesd"
    shown = mindsd("show", picture).lines
    assert "vae: taesd" in shown and f"vae_fingerprint: {record.vae_fingerprint}" in shown
    assert ", Model: thin-sd, VAE: taesd, Version: " in Image.open(picture).info["parameters"]
    missing, _ = draw("--from", picture)
    assert missing.code == 2 and "drawn by the autoencoder taesd, which it only" in missing.err
    again, copy = draw("--from", picture, "--vae", folder)
    assert copy.read_bytes() == picture.read_bytes() and "may differ" not in again.err
    own, other = draw("--from", picture, "--force")
    assert other.read_bytes() != picture.read_bytes()
    assert "the image may differ: autoencoder taesd, now of the model\n" in own.err


def test_another_autoencoder_of_the_same_name_is_refused(draw, tmp_path):
    folder = tmp_path / "taesd"
    tiny_autoencoder().save_pretrained(folder)
    _, picture = draw("a", *SMALL, "--vae", folder, "-q")
    _, plain = draw("a", *SMALL, "-q")
    (weights,) = folder.glob("*.safetensors")
    save_file({name: -value for name, value in load_file(weights).items()}, weights)
    run, _ = draw("--from", picture, "--vae", folder)
    assert run.code == 2 and "by another autoencoder of the name taesd (weights" in run.err
    forced, _ = draw("--from", picture, "--vae", folder, "--force")
    assert forced.code == 0 and "the image may differ: weights" in forced.err
    told, _ = draw("--from", plain, "--vae", folder)
    assert "the image may differ: autoencoder of the model, now taesd\n" in told.err


def test_a_picture_of_automatic1111(draw, tmp_path):
    info = PngInfo()
    settings = "Steps: 2, Sampler: Euler a, CFG scale: 3, Seed: 5, Size: 32x32, Clip skip: 2"
    info.add_text("parameters", f"a fox\nNegative prompt: b\n{settings}, Model: xl")
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=info)
    run, picture = draw("--from", tmp_path / "theirs.png")
    told = read_record(picture)
    scheduler = "EulerAncestralDiscreteScheduler"
    assert told and told.parameters == ImageParameters(
        "a fox", "b", steps=2, guidance=3.0, seed=5, width=32, height=32, scheduler=scheduler
    )
    assert "the image may differ: model xl, now thin-sd; it leaves out Clip skip: 2\n" in run.err
