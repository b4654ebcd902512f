"""The arithmetic and the turns of the comparison with peers of text, who themselves do not run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers.language import turns
from benchmarks.peers.language.engines import ENGINES
from benchmarks.peers.language.environments import ENVIRONMENTS, closure, linked, needed
from benchmarks.peers.language.job import Job, Measured
from benchmarks.peers.language.tables import alike, ratios, speeds
from benchmarks.peers.language.turns import Failed, Results, ask, environment, run
from benchmarks.peers.language.ways import NAMES, WAYS
from benchmarks.peers.language.weights import Weights
from benchmarks.peers.language.worker import PACKAGES, check, decoded, measure

COMMAND = Path(__file__).parents[2] / "benchmarks" / "language_peers.py"
JOB = Job("", {}, "", [1, 2], 2)
SHORT = replace(JOB, greedy_tokens=2, batches=(1, 2), prompt=4, drawn=3, prefill=8, repeats=1)
FORMS = ("gguf", "folder", "openvino-plain", "openvino-int8")


def measured(decode: float = 20.0, prefill: float = 100.0, greedy: tuple[int, ...] = (5, 6)):
    return Measured({"1": decode, "8": 4 * decode}, prefill, list(greedy), {"torch": "1"})


def test_jobs_and_answers_survive_the_way():
    job = replace(SHORT, settings={"dtype": "bfloat16"})
    assert Job.parse(str(job)) == job
    assert Measured.parse(str(measured())) == measured()


def test_decode_does_not_count_the_prompts():
    seconds = {1: 5.0, 5: 7.0}  # 5 s of prompts, then 4 tokens of 8 requests in 2 s
    assert decoded(8, 4, seconds.__getitem__) == 16


def test_every_way_has_an_engine_an_environment_or_none_and_weights():
    assert len(set(NAMES)) == len(NAMES)
    assert {way.engine for way in WAYS} == set(ENGINES) == set(PACKAGES)
    assert set(ENGINES) - set(ENVIRONMENTS) == {"transformers", "mindsd"}
    weights = Weights({form: Path(form) for form in FORMS}, [7], [8])
    asked = [way.asks(JOB, weights) for way in WAYS]
    assert {job.weights for job in asked} == set(FORMS)
    assert all(job.greedy == [7] and job.threads == 2 for job in asked)


def test_an_engine_is_asked_for_new_prompts_of_the_right_shapes():
    calls: list[tuple[list[list[int]], int]] = []

    def generate(prompts: list[list[int]], number: int) -> list[list[int]]:
        calls.append((prompts, number))
        return [list(range(number)) for _ in prompts]

    answer = measure(SHORT, generate)
    assert answer.greedy == [0, 1] and list(answer.decode) == ["1", "2"] and answer.prefill > 0
    shapes = [(len(prompts), len(prompts[0]), number) for prompts, number in calls]
    one, two = [(1, 4, 3), (1, 4, 1), (1, 4, 4)], [(2, 4, 3), (2, 4, 1), (2, 4, 4)]
    assert shapes == [(1, 2, 2), *one, *two, (1, 8, 1), (1, 8, 1)]
    texts = [tuple(prompt) for prompts, _ in calls for prompt in prompts]
    assert len(set(texts)) == len(texts)


def test_an_engine_that_stops_early_is_found():
    check([[1, 2], [3, 4]], 2, 2)
    with pytest.raises(RuntimeError, match=r"2 answers of \[1, 2\] tokens came, 2 of 2 were asked"):
        check([[1, 2], [3]], 2, 2)


def test_ways_take_turns_and_one_that_fails_is_left_out():
    asked: list[str] = []

    def answer(way) -> Measured:
        asked.append(way.name)
        if way.name == "mindsd-int8":
            raise Failed("no such layers")
        return measured()

    told: list[str] = []
    results = run(WAYS[:3], 2, answer, told.append)
    assert asked == ["transformers", "mindsd", "mindsd-int8", "transformers", "mindsd"]
    assert results.left_out == {"mindsd-int8": "no such layers"}
    assert {name: len(own) for name, own in results.measured.items()} == {
        "transformers": 2,
        "mindsd": 2,
    }
    assert told[0] == "round 1 of 2: transformers, bf16"


def test_tables_of_speeds_and_ratios():
    rounds = {
        "transformers": [measured(10), measured(20), measured(40)],
        "mindsd": [measured(20, 300), measured(100, 300), measured(40, 300, (5, 7))],
    }
    results = Results(rounds, {})
    lines = speeds(results, WAYS, [5, 6]).splitlines()
    assert lines[2] == (
        "| transformers, bf16 | 20.0 (10.0-40.0) | 80.0 (40.0-160.0) | 100 (100-100) | all 2 |"
    )
    assert lines[3].endswith("| 300 (300-300) | 1 of 2 |")
    assert ratios(results, WAYS).splitlines()[3] == "| mindsd, bf16 | 2.00x | 2.00x | 3.00x |"


def test_greedy_text_is_compared_up_to_the_first_other_token():
    assert alike([[1, 2, 3]], [1, 2, 3]) == "all 3"
    assert alike([[1, 2, 3], [1, 9, 3]], [1, 2, 3]) == "1 of 3"


def test_requirements_are_kept_that_hold_here_and_are_not_left_out():
    asked = [
        "torch>=2",
        "torchvision",
        "rich>=13 ; python_version > '3'",
        "six ; python_version < '3'",
        "pytest ; extra == 'tests'",
    ]
    assert needed(asked, ("torch", "torchvision")) == ["rich>=13"]


def test_a_package_is_shared_with_what_it_needs_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.peers.language.environments.FOLDER", tmp_path)
    assert closure(("jinja2",)) == {"jinja2", "MarkupSafe"}
    folder = linked(("jinja2",))
    names = {entry.name.split("-")[0] for entry in folder.iterdir()}
    assert names <= {"jinja2", "markupsafe", "MarkupSafe"}
    assert linked(("jinja2",)) == folder and (folder / "jinja2" / "__init__.py").is_file()


def test_a_process_has_the_threads_of_its_job_and_no_network():
    told = environment(replace(JOB, threads=3))
    assert told["OMP_NUM_THREADS"] == "3" and told["VLLM_CPU_OMP_THREADS_BIND"] == "0-2"
    assert told["HF_HUB_OFFLINE"] == "1"


def test_a_measurement_that_fails_says_why():
    with pytest.raises(Failed, match="KeyError: 'nobody'"):
        ask(replace(JOB, engine="nobody"))


def test_a_process_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    with pytest.raises(Failed, match="nobody gave no answer in 0.01 s"):
        ask(replace(JOB, engine="nobody"))


def test_an_unknown_way_is_refused():
    command = [sys.executable, str(COMMAND), "--only", "songs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "'songs' is none of transformers, mindsd" in done.stderr
