"""Pictures described once each, and again when they changed."""

import json
import os
import shutil
import signal
from contextlib import nullcontext

import pytest

from mindsd.app import describing
from mindsd.app.describing import Describing
from mindsd.pipelines.vision_chat import DESCRIBE, VisionChat
from tests.zoo.vision import colours


@pytest.fixture
def out(tmp_path):
    return tmp_path / "captions.jsonl"


@pytest.fixture(scope="module")
def chat(vision_model):
    with VisionChat.load(vision_model) as chat:
        yield chat


@pytest.fixture
def describe(mindsd, vision_model):
    return lambda *given: mindsd("describe", "-m", vision_model, "--max-tokens", 6, *given)


@pytest.fixture
def loaded(chat, monkeypatch):
    """The model is there already."""
    monkeypatch.setattr(describing, "load", lambda order: nullcontext(chat))


@pytest.fixture
def expected(chat):
    """What the model says of pictures alone."""

    def ask(files, question=DESCRIBE):
        return {str(file): str(chat.ask(file, question, max_tokens=6)) for file in files}

    return ask


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def captions(path):
    return {told["image"]: told["text"] for told in read(path) if "text" in told}


def test_each_as_it_would_be_alone(describe, pictures, out, expected):
    run = describe(*pictures, "-o", out)
    assert run.code == 0 and run.out == "" and "3 done, 0 failed, 0 skipped" in run.err
    assert captions(out) == expected(pictures) and len(set(captions(out).values())) == 3
    first = read(out)[0]
    assert list(first) == ["image", "hash", "model", "text", "finish_reason", "usage"]
    assert first["usage"]["completion_tokens"] == 6 and first["finish_reason"] == "length"


@pytest.mark.usefixtures("loaded")
def test_a_question_about_each_of_a_folder(describe, pictures, out, expected):
    folder = pictures[0].parent
    assert describe(folder, "-o", out, "--question", "What colour is it?").code == 0
    assert captions(out) == expected(pictures, "What colour is it?")
    assert {told["question"] for told in read(out)} == {"What colour is it?"}
    again = describe(folder, "-o", out)
    assert again.code == 0 and "3 done, 0 failed, 0 skipped" in again.err  # another question


@pytest.mark.usefixtures("loaded")
def test_captions_on_stdout(describe, pictures, expected, tmp_path):
    run = describe(*pictures[:2], tmp_path / "no.png")
    told = dict(line.split("\t") for line in run.lines)
    assert run.code == 1 and list(told) == [str(file) for file in pictures[:2]]
    assert "no.png cannot be read (No such file or directory)" in run.err
    assert 'see "error"' not in run.err and "2 done, 1 failed" in run.err


@pytest.mark.usefixtures("loaded")
def test_what_is_wrong_stops_no_other_and_is_tried_again(describe, pictures, out):
    pictures[1].write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    gone = pictures[2].rename(pictures[2].with_suffix(".gone"))
    run = describe(*pictures, "-o", out)
    wrong = {told["image"]: told["error"] for told in read(out) if "error" in told}
    assert run.code == 1 and "2 failed, 0 skipped, " in run.err and f"in {out}" in run.err
    assert set(wrong) == {str(file) for file in pictures[1:]}
    assert "cannot be read as a picture" in wrong[str(pictures[1])]
    gone.rename(pictures[2])
    colours(7, 16, 16).save(pictures[1])
    run = describe(*pictures, "-o", out)
    assert run.code == 0 and "2 done, 0 failed, 1 skipped" in run.err
    assert set(captions(out)) == {str(file) for file in pictures}


@pytest.mark.usefixtures("loaded")
def test_only_what_is_new_or_changed(describe, pictures, out, monkeypatch):
    assert describe(*pictures, "-o", out, "--limit", 2).code == 0
    assert list(captions(out)) == [str(file) for file in pictures[:2]]
    before = read(out)
    shutil.copy(pictures[1], pictures[0])
    run = describe(*pictures, "-o", out)
    assert run.code == 0 and "2 done, 0 failed, 1 skipped" in run.err
    assert read(out)[:2] == before and len(read(out)) == 4
    assert captions(out)[str(pictures[0])] == captions(out)[str(pictures[1])]
    monkeypatch.setattr(describing, "load", None)
    run = describe(*pictures, "-o", out)
    assert run.code == 0 and run.err.startswith("0 done, 0 failed, 3 skipped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no picture; name some"),
        (("a.png", "-o", "nowhere/out.jsonl"), "in a folder that does not exist"),
        (("a.png", "-o", "."), "--output . is no file"),
        (("a.png", "--question", " "), "the question is empty"),
        (("a.png", "--question", "a\udc80"), "the question is not valid UTF-8 text"),
        (("a.png", "--limit", 0), "--limit must be at least 1, got 0"),
        (("a.png", "--max-tokens", 0), "max_tokens is a whole number from 1"),
        (("a.png", "-m", "no-such"), "no language model 'no-such'"),
    ],
)
def test_before_anything_is_loaded(arguments, words, describe, monkeypatch):
    monkeypatch.setattr(describing, "load", None)
    run = describe(*arguments)
    assert run.code == 2 and words in run.err and len(run.err.splitlines()) == 1


def test_a_model_that_cannot_see(describe, language_model, pictures):
    run = describe(pictures[0], "-m", language_model)
    assert run.code == 2 and run.err.count("\n") == 1
    assert "tiny-llama reads text alone, it cannot look at pictures" in run.err


@pytest.mark.usefixtures("loaded")
def test_ctrl_c_keeps_what_is_finished(describe, pictures, out, monkeypatch):
    done = Describing.done

    def stopping(self, path, results):
        done(self, path, results)
        os.kill(os.getpid(), signal.SIGINT)

    folder = pictures[0].parent
    with monkeypatch.context() as patched:
        patched.setattr(Describing, "in_flight", 1)
        patched.setattr(Describing, "done", stopping)
        run = describe(folder, "-o", out)
    kept = captions(out)
    assert run.code == 130 and 1 <= len(kept) < 3
    assert "the same command goes on from here" in run.err
    run = describe(folder, "-o", out)
    assert run.code == 0 and f"{len(kept)} skipped" in run.err and len(captions(out)) == 3
