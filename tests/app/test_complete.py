"""A batch of prompts: every line answered once, by itself, and the same whatever happens."""

import json
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode

import pytest

from mindsd.app import completing
from mindsd.app.completing import Completing
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.vision_chat import VisionChat


def write(path, *lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def read(path):
    """Answers by id or line."""
    told = [json.loads(line) for line in path.read_text().splitlines()]
    answers = {next(iter(own.items())): own for own in told}
    assert len(answers) == len(told)
    return answers


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def complete(mindsd, language_model, tmp_path, out):
    def run(*arguments):
        where = ("-i", tmp_path / "in.jsonl", "-o", out, "-m", language_model)
        return mindsd("complete", *where, *arguments)

    return run


@pytest.fixture
def asked(tmp_path):
    return lambda *lines: write(tmp_path / "in.jsonl", *lines)


def test_every_form_of_a_line(complete, asked, out, language_model):
    asked(
        {"id": "a", "prompt": "hello", "max_tokens": 4},
        "hello",
        {"messages": [{"role": "user", "content": "hello"}], "seed": 3},
        {"prompt": "hello", "choice": ["yes", "no"]},
    )
    run = complete("--max-tokens", 6, "--seed", 0)
    answers = read(out)
    assert run.code == 0 and run.out == "" and "4 done, 0 failed, 0 skipped" in run.err
    with TextGeneration.load(language_model) as text:
        first = text("hello", max_tokens=4, seed=1)
        third = text("hello", max_tokens=6, seed=3)
    assert answers["id", "a"]["text"] == str(first)
    assert answers["line", 3]["text"] == str(third)
    assert answers["line", 4]["text"] in ("yes", "no")
    assert answers["line", 4]["finish_reason"] == "stop"
    usage = answers["id", "a"]["usage"]
    assert (usage["completion_tokens"], usage["total_tokens"]) == (4, usage["prompt_tokens"] + 4)


def test_lines_are_answered_as_the_model_says(mindsd, language_model, asked, out, tmp_path):
    shutil.copytree(language_model, tmp_path / "cold")
    said = {"do_sample": False, "repetition_penalty": 3.0, "eos_token_id": 1}
    (tmp_path / "cold" / "generation_config.json").write_text(json.dumps(said))
    asked("a", {"prompt": "a", "temperature": 9, "repetition_penalty": 1})
    where = ("-i", tmp_path / "in.jsonl", "-o", out, "-m", tmp_path / "cold")
    assert mindsd("complete", *where, "--max-tokens", 8, "--seed", 0).code == 0
    with TextGeneration.load(language_model) as text:
        cold = text("a", max_tokens=8, temperature=0, repetition_penalty=3)
        warm = text("a", max_tokens=8, temperature=9, seed=2)
    answers = read(out)
    assert [answers["line", n]["text"] for n in (1, 2)] == [str(cold), str(warm)]


def test_several_answers_and_logprobs(complete, asked, out):
    asked({"prompt": "hello", "n": 2, "logprobs": 2, "max_tokens": 3}, {"prompt": "a", "n": 1})
    assert complete("-n", 3, "--max-tokens", 2).code == 0
    answers = read(out)
    several = answers["line", 1]
    assert "text" not in several and several["usage"]["completion_tokens"] <= 6
    assert len(several["choices"]) == 2 and "choices" not in answers["line", 2]
    told = several["choices"][0]["logprobs"][0]
    assert set(told) == {"id", "token", "logprob", "top"} and len(told["top"]) == 2
    assert told["logprob"] <= told["top"][0]["logprob"] <= 0


def test_a_wrong_line_never_stops_the_others(complete, asked, out):
    file = asked("hello", {"id": 5}, {"prompt": "a", "temprature": 1}, {"prompt": "a", "seed": "b"})
    file.write_text(file.read_text() + '{half\n{"prompt": "a", "self": 1}\n"hello"\n')
    run = complete("--max-tokens", 2, "--seed", 1)
    answers = read(out)
    assert run.code == 1 and "2 done, 5 failed, 0 skipped" in run.err
    wrong = {key: answer["error"] for key, answer in answers.items() if "error" in answer}
    keys = {("id", 5), ("line", 3), ("line", 4), ("line", 5), ("line", 6)}
    assert set(wrong) == keys and "did you mean 'temperature'?" in wrong["line", 3]
    assert "text" in answers["line", 1] and "text" in answers["line", 7]


def test_the_same_in_any_order_and_after_a_cut(complete, asked, out, monkeypatch):
    asked(*({"prompt": f"number {n}", "max_tokens": 2 + n % 5} for n in range(12)))
    assert complete("--seed", 40, "--max-tokens", 8).code == 0
    whole = read(out)
    assert len({answer["text"] for answer in whole.values()}) > 6
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:7]) + lines[7][:-9])
    monkeypatch.setattr(Completing, "in_flight", 2)
    run = complete("--seed", 40, "--max-tokens", 8)
    assert run.code == 0 and "5 done, 0 failed, 7 skipped" in run.err
    assert read(out) == whole


def test_nothing_is_loaded_when_all_is_done(complete, asked, out, monkeypatch):
    asked("hello")
    out.write_text('{"line": 1, "text": "hi"}\n')
    monkeypatch.setattr(completing, "load", None)
    run = complete()
    assert run.code == 0 and run.err.startswith("0 done, 0 failed, 1 skipped")
    assert out.read_text() == '{"line": 1, "text": "hi"}\n'


def test_the_system_message_is_for_texts(complete, asked, out):
    said = {"messages": [{"role": "user", "content": "hello"}]}
    asked("hello", said, {"prompt": "hello", "chat": False})
    assert complete("--system", "be kind", "--max-tokens", 1).code == 0
    sizes = [read(out)["line", number]["usage"]["prompt_tokens"] for number in (1, 2, 3)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_going_on_with_texts(complete, asked, out):
    asked("hello", {"prompt": "hello", "chat": True})
    assert complete("--raw", "--max-tokens", 1).code == 0
    sizes = [read(out)["line", number]["usage"]["prompt_tokens"] for number in (1, 2)]
    assert sizes[0] < sizes[1]


def test_pictures_in_messages(mindsd, asked, out, vision_model, pictures, monkeypatch):
    def line(image):
        parts = [image, {"type": "text", "text": "What is it?"}]
        return {"messages": [{"role": "user", "content": parts}]}

    url = f"data:image/png;base64,{b64encode(pictures[0].read_bytes()).decode()}"
    forms = [
        {"type": "image", "image": "a.png"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image", "image": "no.png"},
        {"type": "input_image", "image": url * 20},
    ]
    file = asked(*map(line, forms))
    monkeypatch.chdir(pictures[0].parent)
    how = ("--max-tokens", 6, "--temperature", 0)
    run = mindsd("complete", "-i", file, "-o", out, "-m", vision_model, *how)
    answers = read(out)
    assert run.code == 1 and "2 done, 2 failed" in run.err
    with VisionChat.load(vision_model) as chat:
        expected = str(chat.ask(pictures[0], "What is it?", max_tokens=6))
    assert answers["line", 1]["text"] == answers["line", 2]["text"] == expected
    assert answers["line", 3]["error"] == "there is no picture at no.png"
    assert "is a text or an image" in (said := answers["line", 4]["error"]) and len(said) <= 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-i", "nowhere.jsonl"), "--input nowhere.jsonl does not exist"),
        (("-i", "."), "--input . is no file"),
        (("-o", "nowhere/out.jsonl"), "is in a folder that does not exist; make nowhere first"),
        (("-o", "."), "--output . is no file"),
        (("-m", "no-such"), "no language model 'no-such'"),
        (("--temperature", -1), "temperature is a number from 0"),
        (("-n", 0), "n is a whole number from 1"),
        (("--seed", 2**70), "seed is a whole number"),
        (("--raw", "--system", "a"), "say --system or --raw"),
    ],
)
def test_before_anything_is_loaded(arguments, words, complete, asked, out, monkeypatch):
    asked("hello")
    monkeypatch.setattr(completing, "load", None)
    run = complete(*arguments)
    assert run.code == 2 and words in run.err and len(run.err.splitlines()) == 1
    assert not out.exists()


def test_the_output_is_not_the_input(complete, asked):
    file = asked("hello")
    run = complete("-o", file)
    assert run.code == 2 and "is the input; name another file" in run.err
    assert file.read_text() == '"hello"\n'


def test_ctrl_c_keeps_what_is_finished(complete, asked, out, language_model, tmp_path):
    first = {"prompt": "a", "max_tokens": 1}
    asked(first, *({"prompt": "hello", "ignore_eos": True} for _ in range(60)))
    command = ["complete", "-i", tmp_path / "in.jsonl", "-o", out, "-m", language_model]
    long = [sys.executable, "-m", "mindsd.app", *map(str, command), "--max-tokens", "200"]
    with subprocess.Popen(long, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (out.exists() and out.stat().st_size) and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    kept = read(out)
    assert process.returncode == 130 and 1 <= len(kept) < 61
    assert f"cancelled: {len(kept)} done, 0 failed" in err
    assert "the same command goes on from here" in err
    run = complete("--max-tokens", 2)
    assert run.code == 0 and f"{len(kept)} skipped" in run.err and len(read(out)) == 61
