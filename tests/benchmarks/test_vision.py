"""The comparison of questions about pictures: measured with tiny sizes, compared, and told."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.zoo.vision import vision_case

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmark by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of a tiny model of random weights."""
    case, folder = vision_case("qwen3_vl"), tmp_path_factory.mktemp("vlm")
    for part in (case.model, case.tokenizer, case.processor.image_processor):
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tiny(parts: Any, model: str) -> Any:
    how = {"new": 4, "pictures": 1, "side": 40, "scenes": 1, "images": 2, "steps": 2}
    return parts("vision_job").Job("question", model, "float32", 1, **how)


def test_a_measurement_is_a_process_that_tells_numbers_and_tokens(tiny):
    command = [sys.executable, str(FOLDER / "vision_worker.py")]
    job = json.dumps(vars(replace(tiny, way="generate")))
    done = subprocess.run([*command, job], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["numbers"]["first"] > 0 and found["numbers"]["rate"] > 0
    assert [len(own) for own in found["tokens"] + found["margins"]] == [4, 4]


def test_the_command_asks_compares_and_tells(parts, tiny, monkeypatch, capsys):
    vision, worker = parts("vision"), parts("vision_worker")
    done: list[Any] = []

    def measured(job: Any, console: Console) -> Any:
        done.append(job)
        small = {"side": tiny.side, "new": 12 if job.case == "beside" else 4}
        return worker.measure(replace(job, **small))

    monkeypatch.setattr(vision, "measured", measured)
    few = {way: vision.WAYS["tokens"][way] for way in ("none", "diverse:0.5")}
    monkeypatch.setitem(vision.WAYS, "tokens", few)
    sizes = ["--pictures", "1", "--scenes", "1", "--images", "4", "--steps", "4"]
    command = ["vision.py", "--model", tiny.folder, "--rounds", "1", "--threads", "1", *sizes]
    monkeypatch.setattr("sys.argv", command)
    assert vision.main() == 0
    told = capsys.readouterr().out
    assert all(title in told for title in vision.TITLES.values())
    assert all(way in told for ways in vision.WAYS.values() for way in ways)
    assert "2 answers of mindsd are generate's, token for token" in told
    assert "16 answers of mindsd are generate's, token for token" in told
    wanted = {(case, way) for case, ways in vision.WAYS.items() for way in ways}
    assert len(done) == len(wanted) + len(vision.WAYS["tokens"])  # whose accuracy is measured, too


def test_ways_take_turns(parts, tiny, monkeypatch):
    vision, order, Found = parts("vision"), [], parts("vision_job").Found

    def measured(job: Any, console: Console) -> Any:
        order.append((job.way, job.caches))
        return Found({})

    monkeypatch.setattr(vision, "measured", measured)
    monkeypatch.setattr("sys.argv", ["vision.py", "--rounds", "2"])
    job = replace(tiny, case="again")
    vision.measure_case(job, vision.read_options(), Console(stderr=True))
    assert order == [("generate", "all"), ("mindsd", "all"), ("mindsd", "seen")] * 2


def test_other_tokens_than_those_of_generate_end_it(parts):
    compared, Found = parts("vision_equal").compared, parts("vision_job").Found
    right = Found({}, [[1, 2, 3]], [[0.5, 0.00001, 0.5]])
    tie = {"generate": [right], "mindsd": [Found({}, [[1, 7, 9]])]}
    said = compared("question", "float32", tie, ["mindsd"])
    assert said.endswith("token for token, 1 of them up to a tie of two logits")
    wrong = tie | {"mindsd": [Found({}, [[1, 2, 4]])]}
    with pytest.raises(SystemExit, match="answer 0 is not generate's: token 2 is 4, not 3"):
        compared("question", "float32", wrong, ["mindsd"])
    short = tie | {"mindsd": [Found({}, [[1, 2]])]}
    with pytest.raises(SystemExit, match="answers of 2 and 3 tokens"):
        compared("question", "float32", short, ["mindsd"])
    assert "not compared" in compared("question", "bfloat16", wrong, ["mindsd"])


def test_a_model_of_any_shape_is_made_and_asked(parts, tiny, tmp_path):
    worker = parts("vision_worker")
    job = replace(tiny, case="save", folder=str(tmp_path), shape="2x64,3x128,64", side=64)
    assert worker.measure(job).numbers["parameters"] > 100_000
    found = worker.measure(replace(job, case="tokens", way="mindsd"))
    assert found.numbers["tokens"] == 4  # 2 x 2 patches of 16 pixels each
    assert found.numbers["bytes"] == 4 * 3 * 2 * 64 * 4  # tokens, layers, keys and values


def test_shapes_that_make_no_model_are_refused(parts):
    Shape = parts("vision_job").Shape
    assert Shape.parse("12x512,12x768,448") == Shape((12, 512), (12, 768), 448)
    for text in ("12x512,12x768", "12x500,12x768,448", "1x64,2x64,64", "2x64,2x64,40", "a,b,c"):
        with pytest.raises(ValueError):
            Shape.parse(text)


def test_wrong_options_are_said(parts, monkeypatch, capsys):
    vision = parts("vision")
    for given, said in (
        (["--only", "songs"], "unknown case songs; choose some of question"),
        (["--shape", "large"], "a shape is like 12x512,12x768,448"),
        (["--rounds", "0"], "are 1 or more"),
    ):
        monkeypatch.setattr("sys.argv", ["vision.py", *given])
        with pytest.raises(SystemExit):
            vision.main()
        assert said in capsys.readouterr().err
