"""Every mistake of the user: one sentence on stderr, nothing on stdout, exit code 2."""

import json
import shutil
import sys

import pytest
from PIL import Image

from mindsd.errors import OutOfMemory

SMALL = ("--steps", 1, "--size", "32x32")


@pytest.fixture
def copied(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def refused(run, words):
    assert run.code == 2 and run.out == ""
    last = run.err.splitlines()[-1]
    assert last.startswith("mindsd: ") and words in last, run.err
    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no prompt"),
        (("",), "prompt 1 is empty"),
        (("a", " \n"), "prompt 2 is empty"),
        (("a\udc80",), "prompt 1 is not valid UTF-8"),
        (("a", "--steps", 0), "steps must be 1 to 1000, got 0"),
        (("a", "--steps", "two"), "Invalid value for '--steps'"),
        (("a", "--guidance", "nan"), "guidance must be a finite number, got nan"),
        (("a", "--guidance", "-1"), "guidance must be at least 0, got -1"),
        (("a", "--seed", -2), "seed must be 0 to"),
        (("a", "--speed", "warp"), "unknown speed 'warp'; choose lossless, quality"),
        (("a", "--step-cache", "often"), "step cache 'often' is none of interval:N"),
        (("a", "--token-merge", "0.9"), "the merged share is above 0 up to 0.75"),
        (("a", "--guidance-until", "nan"), "guidance_until must be a number, got nan"),
        (("a", "-n", 0), "images per prompt must be 1 to"),
        (("a", "--size", "big"), "size 'big' is not WIDTHxHEIGHT"),
        (("a", "--preview-every", -1), "--preview-every must be at least 0"),
        (("a", "--strength", 0.5), "--strength needs --image"),
        (("a", "--mask", "m.png"), "--mask needs --image"),
        (("a", "--image", "nowhere.png"), "there is no picture at nowhere.png"),
        (("a", "--vae", "nowhere"), "nowhere is no folder; an autoencoder is one that holds"),
        (("a", "--layers", "wibble"), "unknown layers 'wibble'; choose auto, off, w8a8, int8"),
        (("a", "--device", "abacus"), "unknown device 'abacus'"),
        (("a", "--dtype", "int3"), "unknown dtype 'int3'"),
        (("a", "--nonsense"), "No such option: --nonsense"),
    ],
)
def test_before_anything_is_loaded(arguments, words, mindsd, model, tmp_path, monkeypatch):
    monkeypatch.setattr("mindsd.app.commands.generate._run", None)  # loading would be a bug here
    run = mindsd("generate", "--model", model, "-o", tmp_path / "out", *arguments)
    refused(run, words)
    assert len(run.err.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", "33x32"), "divisible by 8, not 33x32; try 32x32"),
        (("--scheduler", "nonsense"), "scheduler 'nonsense' does not fit"),
        (("--device", "npu"), "device 'npu' is not usable here: torch_npu is not installed"),
        (("--layers", "w8a8"), "w8a8 is computed by operators of Ascend NPUs only"),
    ],
)
def test_what_only_the_model_can_tell(arguments, words, mindsd, model, tmp_path):
    run = mindsd("generate", "a", "-m", model, "-o", tmp_path, "-q", *SMALL, *arguments)
    assert len(refused(run, words).err.splitlines()) == 1
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("command", ["bench", "tune", "chat", "complete", "describe", "serve"])
def test_words_before_anything_is_loaded(command, mindsd, pictures, tmp_path, monkeypatch):
    """Loading, or importing torch for it, would be a bug here."""
    monkeypatch.setattr(f"mindsd.app.commands.{command}.heavy_imports", None)
    (tmp_path / "in.jsonl").write_text("")
    more = {
        "tune": ("--bound", "ssim>=0.9", "-o", tmp_path / "p.json"),
        "chat": ("hello", "-m", "tiny-vlm"),
        "complete": ("-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-m", "tiny-vlm"),
        "describe": pictures,
    }
    refused(
        mindsd(command, *more.get(command, ()), "--layers", "wibble"), "unknown layers 'wibble'"
    )
    assert not (tmp_path / "out.jsonl").exists()


def test_a_picture_that_is_none(mindsd, model, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    refused(mindsd("generate", "a", "-m", model, "--image", file), "cannot be read as a picture")


def test_an_output_folder_that_cannot_be_written(mindsd, model, tmp_path, monkeypatch):
    monkeypatch.setattr("mindsd.app.commands.generate._run", None)
    (tmp_path / "file").write_text("")
    run = mindsd("generate", "a", "-m", model, "-o", tmp_path / "file")
    refused(run, "cannot be written (File exists); choose another with -o")


def test_an_unknown_model(mindsd, tmp_path):
    refused(mindsd("generate", "a", "-m", "no-such", "-o", tmp_path), "no model 'no-such'")


def spoil(folder, how):
    if how == "missing component":
        shutil.rmtree(folder / "unet")
    elif how == "missing weights":
        (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    elif how == "missing config":
        (folder / "unet" / "config.json").unlink()
    elif how == "pickle":
        (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    elif how == "code":
        (folder / "None.py").write_text("raise SystemExit(3)")
    elif how == "cut weights":
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    elif how == "index leads out":
        index = {"metadata": {}, "weight_map": {"a": "../../secret.safetensors"}}
        (folder / "unet" / "m.safetensors.index.json").write_text(json.dumps(index))
    elif how == "foreign component":
        index = json.loads((folder / "model_index.json").read_text())
        index["unet"] = ["my_module", "MyUNet"]
        (folder / "model_index.json").write_text(json.dumps(index))
    elif how == "unknown pipeline":
        index = json.loads((folder / "model_index.json").read_text())
        index["_class_name"] = "PipelineOfTomorrow"
        (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing component", "is missing"),
        ("missing weights", "has no .safetensors weights"),
        ("missing config", "unet"),
        ("pickle", "is a pickle"),
        ("code", "None.py"),
        ("cut weights", "is not readable as safetensors"),
        ("index leads out", "leads out of its folder"),
        ("foreign component", "comes from 'my_module'"),
        ("unknown pipeline", "PipelineOfTomorrow"),
    ],
)
def test_a_model_folder_that_is_not_whole_or_not_safe(how, words, copied, mindsd, tmp_path):
    spoil(copied, how)
    out = tmp_path / "out"
    run = mindsd("generate", "a", "-m", copied, "-o", out, "--quiet", *SMALL)
    assert len(refused(run, words).err.splitlines()) == 1
    assert not out.exists() or not list(out.iterdir())


def test_errors_that_are_not_the_users_end_with_one(mindsd, monkeypatch):
    def fail(**arguments):
        raise OutOfMemory("no room\n for this")

    monkeypatch.setattr("mindsd.app.commands.generate.Order", fail)
    run = mindsd("generate", "a")
    assert (run.code, run.err) == (1, "mindsd: no room for this\n")


def test_an_odd_image_mode_is_no_mistake(mindsd, model, tmp_path):
    Image.new("LA", (32, 32)).save(tmp_path / "la.png")
    asked = ("--image", tmp_path / "la.png", "--steps", 2, "-o", tmp_path / "out", "-q")
    assert mindsd("generate", "a", "-m", model, *asked).code == 0


def test_output_that_nobody_takes_is_no_traceback(mindsd, model, tmp_path, monkeypatch):
    def full(*words, **where):
        if where.get("file") is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("mindsd.app.progress.print", full, raising=False)
    stdout = sys.stdout
    run = mindsd("generate", "a", "-m", model, "-o", tmp_path / "out", "-q", *SMALL)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run.code == 1
    assert "what is printed cannot be written (No space left on device)" in run.err
    assert len(list((tmp_path / "out").iterdir())) == 1  # what was drawn is kept
