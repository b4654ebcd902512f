"""`mindsd batch` from the command line to the files."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.app.picture_record import read_record
from mindsd.app.runs import durable, progress, run_folder
from mindsd.app.runs.run_folder import RunFolder
from mindsd.config import Acceleration
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.profile import Measured, Profile
from mindsd.stepcache.plan import StepCache
from tests.zoo.autoencoders import tiny_autoencoder


@pytest.fixture
def prompts(tmp_path) -> Path:
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,seed,steps,n\na red fox,7,,\na blue fox,,3,2\n{red|blue},,,2\n")
    return file


@pytest.fixture
def batch(mindsd, model, prompts, tmp_path):
    """The command, on those prompts unless another file is named first."""

    def run(*arguments: object, file: Path = prompts, output: str = "out"):
        where = ("-o", tmp_path / output, "--model", model, "--size", "32x32", "--steps", 2)
        return mindsd("batch", file, *where, *arguments)

    return run


def pictures(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("[0-9]*.png"))}


def entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").open()]


def test_a_profile_for_all_or_for_a_row(batch, model, tmp_path):
    measured = Measured(16, 0.4, 0.1, 3.9, 4.0, 4.1, 33.2, 28.0, 0.981, 0.96, None, None)
    own = fingerprint(DiffusionPipeline.from_pretrained(model))
    tuned = Acceleration(step_cache=StepCache.parse("skip:3"))
    profile = Profile(
        *("thin-sd", own, "cpu", "x86", "float32", 12, 3.0, None, 32, 32, 1, "ssim>=0.98"),
        *(tuned, measured, {}, "2026-01-01"),
    )
    profile.write(tmp_path / "mine.json")
    replace(profile, fingerprint="0" * 16).write(tmp_path / "other.json")
    rows = tmp_path / "rows.csv"
    rows.write_text("prompt,speed,profile\na,,\nb,lossless,\nc,,other.json\n")
    ran = batch("--profile", tmp_path / "mine.json", file=rows)
    found = [read_record(tmp_path / "out" / name) for name in pictures(tmp_path / "out")]
    assert [own and own.parameters.acceleration for own in found] == [tuned, Acceleration()]
    assert ran.code == 1 and "tuned for thin-sd (0000000000000000)" in ran.err
    assert batch("--profile", tmp_path / "mine.json", "--force", file=rows).code == 0
    assert len(pictures(tmp_path / "out")) == 3


def test_it_draws_every_row_and_then_nothing(batch, tmp_path):
    ran = batch("--seed", 5)
    out = tmp_path / "out"
    assert ran.code == 0 and [Path(line).name for line in ran.lines] != []
    assert sorted(Path(line).name for line in ran.lines) == list(pictures(out))
    records = [read_record(out / name) for name in pictures(out)]
    asked = [(r.parameters.prompt, r.parameters.steps) for r in records if r]
    assert asked[:3] == [("a red fox", 2), ("a blue fox", 3), ("a blue fox", 3)]
    assert {prompt for prompt, _ in asked[3:]} <= {"red", "blue"}
    first = records[0]
    assert first and (first.parameters.seed, first.model, first.device) == (7, "thin-sd", "cpu")
    assert first.fingerprint and first.versions["torch"] and first.parameters.width == 32
    done = [entry for entry in entries(out) if "file" in entry]
    assert [entry["file"] for entry in done] != [] and len({e["key"] for e in done}) == 5
    before = pictures(out)
    again = batch("--seed", 5)
    assert (again.code, again.lines) == (0, []) and "5 were there" in again.err
    assert pictures(out) == before and len(entries(out)) == len(done) + 2


def test_an_image_drawn_alone_is_what_generate_draws(batch, mindsd, model, tmp_path):
    batch("--together", 1)
    more = ("--model", model, "--size", "32x32", "--steps", 2, "--seed", 7)
    one = mindsd("generate", "a red fox", "-o", tmp_path / "g", *more).lines[0]
    [name] = [name for name in pictures(tmp_path / "out") if "a-red-fox" in name]
    with Image.open(one) as generated, Image.open(tmp_path / "out" / name) as drawn:
        assert generated.tobytes() == drawn.tobytes()
        assert generated.info["parameters"] == drawn.info["parameters"]


def test_another_autoencoder_draws_other_images_that_are_known_by_other_keys(
    batch, mindsd, model, tmp_path
):
    folder = tmp_path / "taesd"
    tiny_autoencoder().save_pretrained(folder)
    plain = batch("--together", 1, "--seed", 5)
    ran = batch("--together", 1, "--seed", 5, "--vae", folder)
    assert (plain.code, ran.code) == (0, 0) and len(pictures(tmp_path / "out")) == 10
    more = ("--model", model, "--size", "32x32", "--steps", 2, "--seed", 7, "--vae", folder)
    one = mindsd("generate", "a red fox", "-o", tmp_path / "g", *more).lines[0]
    [drawn] = [line for line in ran.lines if "a-red-fox" in line]
    assert Path(one).read_bytes() == Path(drawn).read_bytes()
    assert batch("--together", 1, "--seed", 5, "--vae", folder).lines == []


def test_an_autoencoder_that_fits_no_model_makes_nothing(batch, tmp_path):
    tiny_autoencoder(latent_channels=16).save_pretrained(tmp_path / "taef1")
    ran = batch("--vae", tmp_path / "taef1")
    assert ran.code == 2 and "taef1 has 16 latent channels, thin-sd needs 4" in ran.err
    assert not (tmp_path / "out").exists()


class Killed(BaseException):
    """Ends a run as a kill does: nothing is tidied up that the test looks at."""


@pytest.mark.parametrize("place", ["begun", "written", "renamed", "told"])
def test_a_run_that_ends_anywhere_is_resumed_to_the_same_bytes(batch, tmp_path, monkeypatch, place):
    batch("--seed", 5, output="whole")
    steps = {"left": 0}

    def count(kind: str) -> None:
        if kind == place:
            steps["left"] -= 1
            if steps["left"] == 0:
                raise Killed

    begin, put, add = RunFolder.begin, durable.write_durably, run_folder.Manifest.add

    def write(file: Path, content: bytes, tag: str) -> None:
        if place == "written" and steps["left"] == 1:
            (file.parent / f"{tag}1.part").write_bytes(content)
        count("written")
        put(file, content, tag)
        count("renamed")

    def tell(manifest, entry) -> None:
        add(manifest, entry)
        count("told")

    def begun(folder, keys, missing) -> None:
        begin(folder, keys, missing)
        count("begun")

    monkeypatch.setattr(run_folder, "write_durably", write)
    monkeypatch.setattr(run_folder.Manifest, "add", tell)
    monkeypatch.setattr(RunFolder, "begin", begun)
    for after in (1, 3, 2):
        steps["left"] = after
        try:
            batch("--seed", 5)
        except Killed:
            continue
    steps["left"] = 0
    assert batch("--seed", 5).code == 0
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole")
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".part")]
    keys = [entry["key"] for entry in entries(tmp_path / "out") if "file" in entry]
    assert len(keys) == len(set(keys)) == 5


def test_a_signal_keeps_what_is_done_and_the_rest_comes_later(batch, tmp_path, monkeypatch):
    batch("--seed", 5, "--together", 1, output="whole")
    written = progress.Lines.written

    def interrupted(self, *told) -> None:
        written(self, *told)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Lines, "written", interrupted)
        ran = batch("--seed", 5, "--together", 1)
    assert ran.code == 130 and len(ran.lines) == 1
    assert "cancelled: 1 of 5 images were written; the same command goes on" in ran.err
    assert batch("--seed", 5, "--together", 1).code == 0
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole")


def test_wrong_rows_fail_alone(batch, tmp_path):
    file = tmp_path / "mixed.jsonl"
    rows = ['{"prompt": "a", "seed": 1}', "nonsense", '{"prompt": "b", "size": "33x32"}']
    rows += ['{"prompt": "c", "image": "none.png"}', '{"prompt": "d", "scheduler": "No"}']
    file.write_text("\n".join([*rows, '{"prompt": "e", "seed": 2}']))
    ran = batch(file=file)
    assert ran.code == 1 and len(ran.lines) == 2
    assert "mindsd: line 2: the line is not JSON" in ran.err
    assert "mindsd: line 3: thin-sd draws sizes divisible by" in ran.err
    assert "mindsd: line 4: there is no picture at" in ran.err
    assert "mindsd: line 5: scheduler 'No' does not fit thin-sd" in ran.err
    assert "2 failed, 2 rows are wrong" in ran.err
    told = [entry for entry in entries(tmp_path / "out") if "error" in entry]
    assert [entry["line"] for entry in told] == [2, 4, 3, 5]
    again = batch(file=file)
    assert again.code == 1 and again.lines == [] and "2 failed" in again.err
    file.write_text("\n".join([rows[0], rows[2].replace("33", "32")]))
    assert batch(file=file).code == 0 and len(pictures(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--grid", "stesp=1,2"), "did you mean steps"),
        (("steps",), "one file at a time"),
        (("--shard", "3/2"), "is not I/N"),
        (("--limit", 0), "--limit must be at least 1"),
        (("--together", 0), "--together must be 1 to 1000"),
        (("--guidance", -1), "guidance must be at least 0"),
        (("-n", 0), "-n must be at least 1, got 0"),
        (("--wildcards", "none"), "--wildcards none is not a folder"),
        (("--combinations", "--no-wildcards"), "--combinations needs wildcards"),
        (("--layers", "wibble"), "unknown layers 'wibble'"),
        (("--layers", "w8a8"), "w8a8 is computed by operators of Ascend NPUs only"),
        (("--device", "npu"), "torch_npu is not installed"),
        (("--attention", "wibble"), "unknown attention 'wibble'"),
    ],
)
def test_a_wrong_request_makes_nothing(batch, tmp_path, arguments, reason):
    ran = batch(*arguments)
    assert reason in ran.err
    assert ran.code == 2 and not (tmp_path / "out").exists()


def test_deleted_pictures_are_drawn_again_and_the_file_may_change(batch, prompts, tmp_path):
    batch("--seed", 5)
    out = tmp_path / "out"
    before = pictures(out)
    next(iter(out.glob("0002*.png"))).unlink()
    assert len(batch().lines) == 1 and list(pictures(out)) == list(before)
    head, *rows = prompts.read_text().splitlines()
    prompts.write_text("\n".join([head, "new,1,,", *reversed(rows)]))
    ran = batch()
    assert ran.code == 0 and [Path(line).name[:8] for line in ran.lines] == ["0001-new"]


def test_limit_and_shards_share_the_work(batch, tmp_path):
    assert len(batch("--seed", 5, "--limit", 2).lines) == 2
    first = batch("--shard", "1/2").lines
    second = batch("--shard", "2/2").lines
    assert len(first) + len(second) == 3 and len(pictures(tmp_path / "out")) == 5
    assert batch().lines == []


def test_another_process_in_the_folder_is_told(batch, tmp_path):
    with RunFolder(tmp_path / "out", run_folder.Shard()):
        ran = batch()
    assert ran.code == 2 and "another process draws into" in ran.err


def test_a_dry_run_tells_and_makes_nothing(batch, tmp_path):
    ran = batch("--dry-run", "--seed", 5)
    assert ran.code == 0 and not (tmp_path / "out").exists()
    assert ran.lines[0] == "5 images would be drawn (32x32), of 5 planned"
    assert "guessed from the sizes" in ran.out and "0001-a-red-fox-" in ran.out
    assert "examples" not in ran.out
    batch("--limit", 3, "--seed", 5)
    [plan] = batch("--dry-run", "--json").events
    assert plan["seed"] == 5 and not plan["seed_is_example"]
    assert (plan["images"], plan["skipped"], plan["bytes_guessed"]) == (2, 3, False)
    assert plan["seconds"] > 0 and plan["bytes"] > 100
    names = [one["file"] for one in plan["first"]]
    batch()
    assert set(names) < set(pictures(tmp_path / "out"))


def test_a_dry_run_without_a_seed_says_that_it_is_an_example(batch, tmp_path):
    [plan] = batch("--dry-run", "--json").events
    assert plan["seed_is_example"]
    ran = batch("--dry-run", "--limit", 1)
    assert ran.lines[:2] == [
        "1 image would be drawn (32x32), of 5 planned",
        "0 are there already, 0 rows are wrong",
    ]
    [said] = [line for line in ran.lines if "are examples: --seed" in line]
    seed = int(said.split("--seed ")[1].split()[0])
    batch("--seed", seed)
    assert set(one.split(":")[0].strip() for one in ran.lines if one.startswith("  0001")) < set(
        pictures(tmp_path / "out")
    )
    own = tmp_path / "own.csv"
    own.write_text("prompt,seed\na,1\n")
    assert "examples" not in batch("--dry-run", file=own, output="new").out


def test_one_file_at_a_time(batch):
    ran = batch("b.csv")
    assert ran.code == 2 and "one file at a time" in ran.err and "followed by b.csv" in ran.err


def test_json_and_quiet(batch, tmp_path):
    ran = batch("--json", "--seed", 5)
    kinds = [event["event"] for event in ran.events]
    assert kinds[:2] == ["loading", "loaded"] and kinds.count("image") == 5
    assert ran.events[-1] | {"seconds": 0} == {
        "event": "done", "done": 5, "failed": 0, "wrong": 0, "images": 5, "skipped": 0,
        "causes": {}, "cancelled": False, "seconds": 0,
    }  # fmt: skip
    quiet = batch("-q", "--seed", 6, output="quiet")
    assert quiet.err == "" and len(quiet.lines) == 5
    wrong = batch("--json", "--seed", 4)
    assert (wrong.code, wrong.events[-1]["error"]) == (2, "RequestError")


def test_pictures_are_found_from_where_the_file_lies(batch, tmp_path, model):
    (tmp_path / "there").mkdir()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "there" / "p.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "there" / "m.png")
    file = tmp_path / "there" / "p.csv"
    file.write_text("prompt,image,mask,strength\na,p.png,,0.5\nb,p.png,m.png,1\nc,,,\n")
    ran = batch(file=file)
    assert ran.code == 0 and len(ran.lines) == 3
    record = read_record(next(iter((tmp_path / "out").glob("0002*"))))
    assert record and set(record.pictures) == {"image", "mask_image"}


def test_rows_may_name_models(batch, tmp_path, model):
    other = tmp_path / "other-sd"
    shutil.copytree(model, other)
    (other / "notes.txt").write_text("another model")
    file = tmp_path / "m.jsonl"
    rows = [{"prompt": "a", "seed": 1}, {"prompt": "a", "seed": 1, "model": str(other)}] * 2
    file.write_text("\n".join(map(json.dumps, rows)))
    ran = batch(file=file)
    assert ran.code == 0 and ran.err.count("loading") == 2
    done = [entry["model"] for entry in entries(tmp_path / "out") if "file" in entry]
    assert done == ["thin-sd", "thin-sd", "other-sd", "other-sd"]
    shutil.rmtree(other / "unet")
    rows.append({"prompt": "b"})
    file.write_text("\n".join(map(json.dumps, rows)))
    assert batch(file=file).code == 1


def test_a_full_disk_is_told(batch, tmp_path, monkeypatch):
    put = durable.write_durably

    def full(file: Path, content: bytes, tag: str) -> None:
        if file.name.startswith("0002"):
            raise run_folder.OutputError(f"{file} cannot be written (No space left on device)")
        put(file, content, tag)

    monkeypatch.setattr(run_folder, "write_durably", full)
    ran = batch("--together", 1)
    assert ran.code == 2 and "No space left on device" in ran.err and len(ran.lines) == 1


def test_report_sheet_and_grid(batch, mindsd, tmp_path):
    file = tmp_path / "p.txt"
    file.write_text('<script>alert(1)</script> & "fox"\nno\n')
    ran = batch("--grid", "guidance=1,2", "eta=1", file=file)
    assert ran.code == 2  # eta is no column
    ran = batch("--grid", "guidance=1,2", "speed=lossless,fast", file=file)
    out = tmp_path / "out"
    assert ran.code == 0 and len(pictures(out)) == 8
    page = (out / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;fox" in page
    assert page.count("<figure>") == page.count("data:image/jpeg;base64,") == 8
    assert "http://" not in page and "https://" not in page
    for name in pictures(out):
        assert f'href="{name}"' in page
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.size == (12 + 3 * 172, 12 + 3 * 204)
    assert mindsd("show", "--json", out).code == 0
    grids = sorted(out.glob("grid-*.png"))
    assert len(grids) == 2 and f'href="{grids[0].name}"' in page
    assert batch("--no-report", file=file, output="bare").code == 0
    assert not (tmp_path / "bare" / "report.html").exists()
