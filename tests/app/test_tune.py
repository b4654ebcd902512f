"""A tuning writes a profile that generate takes; mistakes cost one sentence and no time."""

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

from mindsd.app.picture_record import read_record
from mindsd.errors import OutputError
from mindsd.pipelines.knobs import Knob
from mindsd.pipelines.measure import Measure
from mindsd.pipelines.profile import Profile
from mindsd.pipelines.scores import Timing
from mindsd.pipelines.text_to_image import TextToImage

ANY = ("--bound", "ssim>=-1")
SMALL = ("--steps", 12, "--size", "32x32", "--guidance", 3, "--images", 2, "--rounds", 1)
KNOBS = (Knob("step_cache", ("skip:2", "skip:3")),)
SAVED = {"skip:2": 0.5, "skip:3": 0.4}  # seconds, where all else takes 2


@pytest.fixture
def tune(mindsd, model, tmp_path, monkeypatch):
    """The command with one knob, and seconds that are known beforehand: 1 for plain drawing."""

    def timings(self, ways):
        told = {way: str(way.acceleration.as_json().get("step_cache")) for way in ways}
        return {way: Timing((SAVED.get(text, 2.0),), (1.0,)) for way, text in told.items()}

    monkeypatch.setattr(Measure, "timings", timings)
    monkeypatch.setattr("mindsd.app.measuring.calibrate", lambda *given: {})
    monkeypatch.setattr("mindsd.app.measuring.KNOBS", KNOBS)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: mindsd("tune", "--model", model, *SMALL, *arguments)


@pytest.fixture
def generate(mindsd, model, tmp_path):
    asked = ("generate", "a", "-m", model, "--size", "32x32", "--seed", 1, "-o", tmp_path / "out")
    return lambda *arguments: mindsd(*asked, *arguments)


def test_a_profile_is_written_and_used(tune, generate, tmp_path, model):
    run = tune(*ANY)
    assert (run.code, run.lines[-1]) == (0, "thin-sd.profile.json")
    profile = Profile.read(tmp_path / "thin-sd.profile.json")
    assert profile.acceleration.as_json() == {"step_cache": "skip:3"}
    assert (profile.model, profile.device, profile.dtype) == ("thin-sd", "cpu", "float32")
    assert (profile.steps, profile.guidance, profile.width, profile.batch) == (12, 3, 32, 2)
    assert profile.scheduler == "DDIMScheduler" and profile.bound == "ssim>=-1"
    measured = profile.measured
    assert (measured.images, measured.seconds_plain, measured.seconds) == (2, 1.0, 0.4)
    assert measured.speedup_least == measured.speedup == measured.speedup_most == 2.5
    assert measured.ssim_p10 <= measured.ssim < 1 and measured.right is None

    drawn = generate("--profile", tmp_path / "thin-sd.profile.json", "--steps", 12, "-q")
    assert (drawn.code, drawn.err) == (0, "")
    record = read_record(drawn.lines[0])
    assert record and record.parameters.acceleration == profile.acceleration
    with TextToImage.load(model) as draw:
        asked: dict[str, Any] = {"steps": 12, "width": 32, "height": 32, "seed": 1}
        same = draw("a", acceleration=draw.tuned("thin-sd.profile.json"), **asked).images[0]
    assert Image.open(drawn.lines[0]).tobytes() == same.tobytes()


def test_the_table_shows_search_and_proof(tune):
    run = tune(*ANY, "-o", "p.json")
    searched = run.lines.index("Searched")
    proved = run.lines.index("On images that the search did not see")
    rows = [line.split("  ")[0] for line in run.lines]
    assert searched < rows.index("--step-cache skip:2") < proved
    assert rows[proved + 2 :] == ["--step-cache skip:3", "plain", "--steps 5", "p.json"]
    assert "2.50x" in run.lines[proved + 2] and "holds" in run.lines[proved + 2]
    assert "--step-cache skip:2: holds, 2.00x, SSIM" in run.err


def test_json_tells_all_and_nothing_else(tune):
    run = tune(*ANY, "--json", "-o", "p.json")
    assert (run.code, run.err) == (0, "")
    kinds = [event["event"] for event in run.events]
    assert set(kinds) == {"measuring", "found", "done"}
    assert run.events[-1] == {"event": "done", "profile": "p.json", "cancelled": False}
    found = [event for event in run.events if event["event"] == "found"]
    assert {event["stage"] for event in found} == {"search", "unseen"}
    assert found[0]["acceleration"] == {"step_cache": "skip:2"}
    assert found[0]["speedup"] == [2, 2, 2] and set(found[0]["ssim"]) == {"mean", "median", "p10"}


def test_prompts_of_a_file(tune, tmp_path, monkeypatch):
    seen = set()
    batch = Measure._batch

    def see(self, way, first, end):
        seen.update(self._samples.prompts)
        return batch(self, way, first, end)

    monkeypatch.setattr(Measure, "_batch", see)
    (tmp_path / "prompts.txt").write_text("a fox\n\n  ein Bär\n")
    assert tune(*ANY, "--prompts", "prompts.txt").code == 0
    assert seen == {"a fox", "ein Bär"}


def test_a_place_that_goes_away_costs_the_profile_only(tune, monkeypatch):
    def fail(self, path):
        raise OutputError(f"the profile {path} cannot be written (No space left on device)")

    monkeypatch.setattr(Profile, "write", fail)
    run = tune(*ANY)
    assert run.code == 2 and "Searched" in run.lines and "No space left on device" in run.err


def test_nothing_is_written_where_nothing_holds(tune, tmp_path):
    run = tune("--bound", "psnr>=99.9,ssim>=1")
    assert run.code == 1 and not list(tmp_path.glob("*.json"))
    said = "mindsd: nothing faster than plain holds psnr>=99.9,ssim>=1: no profile was written"
    assert said in run.err and run.lines[0] == "Searched"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bound", "nice"), "the bound 'nice' is not understood"),
        (("--bound", "ssim>=0.9,right>=-0.01"), "a bound on right needs images that can be read"),
        (("--images", 0), "--images must be 1 to 10000, got 0"),
        (("--batch", 0), "--batch must be 1 to"),
        (("--rounds", -1), "--rounds must be 1 to"),
        (("--steps", 0), "steps must be 1 to 1000, got 0"),
        (("--guidance", "nan"), "guidance must be a finite number"),
        (("--size", "big"), "size 'big' is not WIDTHxHEIGHT"),
        (("--prompts", "nowhere.txt"), "prompts nowhere.txt cannot be read (No such file"),
        (("--prompts", "empty.txt"), "empty.txt holds no prompts"),
        (("--prompts", "latin.txt"), "prompts latin.txt are not valid UTF-8"),
        (("--model", "no-such"), "no model 'no-such'"),
        (("-o", "nowhere/p.json"), "nowhere/p.json cannot be written (No such file or directory)"),
        (("-o", "empty.txt"), "empty.txt is not JSON"),
    ],
)
def test_mistakes_before_anything_is_loaded(arguments, words, tune, tmp_path, monkeypatch):
    monkeypatch.setattr("mindsd.app.commands.tune._run", None)  # loading would be a bug here
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("Bär".encode("latin-1"))
    run = tune(*arguments)
    assert (run.code, run.out) == (2, "") and words in run.err
    assert run.err.startswith("mindsd: ") and len(run.err.splitlines()) == 1
    assert (tmp_path / "empty.txt").read_text() == "\n \n"


def test_right_is_bound_only_for_the_embedded_models_own_images(mindsd, monkeypatch, tmp_path):
    monkeypatch.setattr("mindsd.app.commands.tune._run", lambda *given: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a fox")
    asked = ("tune", "--bound", "right>=-0.01")
    assert mindsd(*asked).code == mindsd(*asked, "--size", 128).code == 0
    for more in (("--size", 64), ("--prompts", "prompts.txt")):
        run = mindsd(*asked, *more)
        assert run.code == 2 and "bound ssim or psnr instead" in run.err


def test_a_profile_of_another_model_needs_force(tune, generate, mindsd, tmp_path):
    tune(*ANY, "-o", "p.json")
    asked = ("generate", "a", "--steps", 12, "-o", tmp_path / "out", "--profile", "p.json")
    run = mindsd(*asked)
    assert run.code == 2 and not list((tmp_path / "out").glob("*.png"))
    assert "the profile was tuned for thin-sd (" in run.err and "--force" in run.err
    forced = mindsd(*asked, "--force", "--size", 32)
    assert forced.code == 0
    record = read_record(forced.lines[0])
    assert record and record.parameters.acceleration.as_json() == {"step_cache": "skip:3"}


def test_single_flags_go_before_the_profile(tune, generate):
    tune(*ANY, "-o", "p.json")
    more = ("--step-cache", "interval:2", "--guidance-until", 0.5)
    run = generate("--profile", "p.json", "--steps", 12, "-q", *more)
    record = read_record(run.lines[0])
    assert record and record.parameters.acceleration.as_json() == {
        "step_cache": "interval:2",
        "guidance_until": 0.5,
    }


def test_what_is_not_as_it_was_tuned_is_noted(tune, generate):
    tune(*ANY, "-o", "p.json")
    run = generate("--profile", "p.json", "--steps", 14)
    assert "note: the profile was tuned at steps 12, now 14; guidance 3.0, now 7.5" in run.err
    told = [e for e in generate("--profile", "p.json", "--json", "--steps", 12).events]
    assert [e["text"] for e in told if e["event"] == "note"] == [
        "the profile was tuned at guidance 3.0, now 7.5: time and likeness may differ from what "
        "it says"
    ]
    assert "note" not in generate("--profile", "p.json", "--steps", 12, "--guidance", 3).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--profile", "broken.json"), "broken.json is not JSON"),
        (("--profile", "none.json"), "none.json cannot be read"),
        (("--profile", "broken.json", "--speed", "fast"), "say --speed or --profile"),
        (("--force",), "--force needs --profile"),
    ],
)
def test_profiles_that_generate_refuses(arguments, words, generate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    run = generate(*arguments)
    assert (run.code, run.out) == (2, "") and words in run.err
    assert len(run.err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_ctrl_c_prints_what_was_found_and_writes_nothing(model, tmp_path):
    asked = [sys.executable, "-m", "mindsd.app", "tune", "--model", model, *SMALL, "--json"]
    with subprocess.Popen(
        [str(word) for word in (*asked, *ANY)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if json.loads(line)["event"] == "found":
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and list(tmp_path.iterdir()) == []
    last = json.loads(out.splitlines()[-1])
    assert last == {"event": "done", "profile": None, "cancelled": True}
    assert err == "cancelled: no profile was written\n"
