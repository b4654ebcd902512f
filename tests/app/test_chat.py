"""One answer, or a conversation: what goes to stdout, what is kept, how it ends."""

import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module

import pytest

from mindsd.app import talking
from mindsd.app.interrupt import Interrupt
from mindsd.app.talking import Talk
from mindsd.app.text_options import ChatOrder
from mindsd.errors import RequestError
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.pipelines.vision_chat import VisionChat, shown

command = import_module("mindsd.app.commands.chat")  # app.commands.chat may be the function

SHORT = ("--max-tokens", 8, "--seed", 5)


@pytest.fixture
def chat(mindsd, language_model):
    return lambda *arguments: mindsd("chat", "-m", language_model, *SHORT, *arguments)


@pytest.fixture
def typed(monkeypatch):
    """Lines that are typed at a terminal, before Ctrl-D."""

    def run(*lines):
        given = iter(lines)

        def asked(prompt=""):
            line = next(given, None)
            if line is None:
                raise EOFError
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr("builtins.input", asked)

    return run


@pytest.fixture
def text(language_model):
    with TextGeneration.load(language_model) as text:
        yield text


def expected(text, prompt):
    return str(text(prompt, max_tokens=8, seed=5, temperature=0.7, top_p=0.9))


def test_one_answer(chat, text):
    run = chat("a", "red", "circle")
    assert run.code == 0 and run.out == f"{expected(text, 'a red circle')}\n"
    assert "(loaded tiny-llama in" in run.err and "(cut after 8 tokens" in run.err


def test_an_answer_is_drawn_as_the_model_says(mindsd, language_model, text, tmp_path):
    shutil.copytree(language_model, tmp_path / "cold")
    said = {"do_sample": False, "repetition_penalty": 3.0, "eos_token_id": 1}
    (tmp_path / "cold" / "generation_config.json").write_text(json.dumps(said))
    as_said = {"max_tokens": 8, "repetition_penalty": 3}
    for more, how in (((), {"temperature": 0}), (("--temperature", 9), {"temperature": 9})):
        run = mindsd("chat", "-m", tmp_path / "cold", *SHORT, "a", *more)
        assert run.out == f"{text('a', seed=5, **as_said, **how)}\n"


def test_a_prompt_that_is_piped_in(chat, text, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a red circle\n"))
    assert chat().out == f"{expected(text, 'a red circle')}\n"


def test_a_conversation_is_kept_and_started_over(chat, text, typed):
    typed("a", "b", "", "/new", "/old", "a", "/quit", "never asked")
    run = chat()
    first = expected(text, "a")
    messages = [("user", "a"), ("assistant", first), ("user", "b")]
    second = expected(text, [{"role": role, "content": said} for role, said in messages])
    assert run.code == 0 and run.out == f"{first}\n{second}\n{first}\n"
    assert "(a new conversation)" in run.err and "there is no command /old" in run.err


def test_ctrl_d_leaves(chat, typed):
    typed("a")
    assert chat().code == 0


def test_ctrl_c_at_the_prompt_leaves(chat, typed):
    typed(KeyboardInterrupt())
    assert chat().code == 130


def test_sigterm_in_an_answer_ends_the_conversation(chat, typed, monkeypatch):
    def answer(self, said, interrupt):
        interrupt.on_signal = lambda: None
        os.kill(os.getpid(), signal.SIGTERM if said == "a" else signal.SIGINT)

    monkeypatch.setattr(Talk, "answer", answer)
    typed("b", "a", "never asked", OSError("asked again"))
    assert chat().code == 130


def test_a_message_that_fails_does_not_end_the_conversation(chat, text, typed):
    typed("a " * 300, "b\udc80", "a")
    run = chat()
    assert run.code == 0 and run.out == f"{expected(text, 'a')}\n"
    assert "there is room for 256 with the answer; shorten it" in run.err
    assert "the message is not valid UTF-8 text" in run.err


def test_the_oldest_are_forgotten_with_a_line(chat, typed):
    typed(*["a red circle above a blue square, or not"] * 12)
    run = chat("--system", "be kind")
    assert run.code == 0 and len(run.out.encode()) > 12 and "exchange" in run.err
    assert "(no room for all: the oldest" in run.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((" ",), "the prompt is empty"),
        (("a\udc80",), "the prompt is not valid UTF-8 text"),
        (("a", "--max-tokens", 0), "max_tokens is a whole number from 1 up, got 0"),
        (("a", "--top-p", 0), "top_p is a number above 0"),
        (("a", "-m", "tiny-sd"), "tiny-sd is an image model"),
        (("a", "--device", "abacus"), "unknown device 'abacus'"),
    ],
)
def test_mistakes_are_one_sentence(chat, arguments, words):
    run = chat(*arguments)
    assert run.code == 2 and run.out == "" and words in run.err
    assert len(run.err.splitlines()) == 1


def test_nothing_piped_in_is_refused(chat, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    run = chat()
    assert run.code == 2 and "the prompt is empty" in run.err


def test_a_model_that_cannot_talk(chat, text, monkeypatch):
    def load(*args, **options):
        text.model.tokenizer.chat_template = None
        return text

    monkeypatch.setattr(TextGeneration, "load", load)
    run = chat("a")
    assert run.code == 2 and "has no chat template" in run.err and "mindsd complete" in run.err


def test_a_stopped_answer_is_kept_as_far_as_it_came(text, language_model, capsys):
    notes = []
    sampling = {"max_tokens": 200, "seed": 5}
    talk = Talk(text, ChatOrder("a", str(language_model), sampling=sampling), notes.append)
    with Interrupt() as interrupt:
        submit = text.submit

        def watched(*args, **options):
            request = submit(*args, **options, ignore_eos=True)
            emit = request.emit
            told = []

            def stopping(event):
                told.append(event)
                emit(event)
                if len(told) == 12:
                    os.kill(os.getpid(), signal.SIGINT)

            request.emit = stopping
            return request

        text.submit = watched
        talk.answer("a", interrupt)
    out = capsys.readouterr().out
    [(said, answer)] = talk.conversation.exchanges
    assert said == "a" and out == f"{answer}\n" and notes == ["stopped"]
    assert text("b", max_tokens=1).usage.completion == 1  # the engine goes on


def test_the_second_turn_finds_the_first_in_the_cache(language_model, capsys, monkeypatch):
    order = ChatOrder("a", str(language_model), "be kind", {"max_tokens": 8, "seed": 5})
    asked = []
    with TextGeneration.load(language_model, cache=CacheOptions(block=8)) as text:
        submit = text.submit

        def watched(*args, **options):
            asked.append(submit(*args, **options))
            return asked[-1]

        monkeypatch.setattr(text, "submit", watched)
        talk = Talk(text, order, lambda note: None)
        with Interrupt() as interrupt:
            talk.answer("a red circle above a blue square", interrupt)
            talk.answer("b", interrupt)
        first, second = (request.result()[0].usage for request in asked)
    assert first.cached == 0 and second.cached >= first.prompt // 8 * 8 > 0


@pytest.fixture(scope="module")
def eyes(vision_model):
    with VisionChat.load(vision_model) as chat:
        yield chat


@pytest.fixture
def seeing(mindsd, vision_model, eyes, monkeypatch):
    """A chat with a model that sees, which is there already."""
    monkeypatch.setattr(talking, "load", lambda order: TextGeneration(eyes.model))
    return lambda *arguments: mindsd("chat", "-m", vision_model, "--max-tokens", 8, *arguments)


def test_a_question_about_pictures(mindsd, vision_model, eyes, pictures):
    asked = ("What is", "this?", "-i", pictures[0], "--image", pictures[1], "--max-tokens", 8)
    run = mindsd("chat", "-m", vision_model, *asked)
    expected = str(eyes.ask(pictures[:2], "What is this?", max_tokens=8))
    assert run.code == 0
    assert run.out == f"{expected}\n" != f"{eyes.ask(pictures[0], 'What is this?', max_tokens=8)}\n"


def test_a_conversation_about_pictures(seeing, eyes, pictures, typed):
    first, second, third = pictures
    typed("a", f"/image '{second}'", f"/image {third}", "b", "c", "/image", "/image no.png", "/old")
    run = seeing("-i", first)
    said = [shown(first, "a"), shown([second, third], "b"), {"role": "user", "content": "c"}]
    answers: list[str] = []
    for number in range(3):
        before = [{"role": "assistant", "content": answer} for answer in answers]
        told = [one for pair in zip(said, before, strict=False) for one in pair] + [said[number]]
        answers.append(str(eyes(told, max_tokens=8, temperature=0)))
    assert run.code == 0 and run.out == "".join(f"{answer}\n" for answer in answers)
    assert "(/image PATH shows a picture with the next message, /new" in run.err
    assert "(1 picture is shown with the first message)" in run.err
    assert "(32x16 pixels, 4 tokens: shown with the next message)" in run.err
    assert "say which picture: /image PATH" in run.err
    assert "there is no picture at no.png" in run.err and "there are /image PATH, /new" in run.err


def test_pictures_wait_for_an_answer_and_new_forgets_them(seeing, pictures, typed):
    typed("a " * 600, f"/image {pictures[1]}", "/new", "a " * 600)
    err = seeing("-i", pictures[0]).err
    assert "4 of them its pictures', and there is room for 512 with the answer" in err
    assert err.count("(1 picture is shown with the next message; /new forgets all)") == 1
    assert err.count("shorten it)") == 1


def test_a_model_of_text_alone_is_shown_no_picture(mindsd, chat, language_model, pictures, typed):
    run = chat("a", "-i", pictures[0])
    assert run.code == 2 and len(run.err.splitlines()) == 1
    assert "tiny-llama reads text alone, it cannot look at pictures; take a model" in run.err
    typed(f"/image {pictures[0]}", "/old")
    run = chat()
    assert "/image" not in run.err.splitlines()[1] and "(this model reads text alone" in run.err
    assert "there are /new and /quit" in run.err


@pytest.mark.parametrize("asked", [("a",), ()])
def test_a_picture_that_is_none(seeing, asked, tmp_path, typed):
    typed()
    (tmp_path / "a.png").write_bytes(b"GIF")
    run = seeing("-i", tmp_path / "a.png", *asked)
    assert run.code == 2 and "a.png cannot be read as a picture" in run.err


def test_pictures_have_a_model_of_their_own(mindsd, pictures, monkeypatch):
    chosen = []

    def order(prompt, model, system, sampling, *more):
        chosen.append((model, sampling["temperature"]))
        raise RequestError("enough")

    monkeypatch.setattr(command, "ChatOrder", order)
    for more in ((), ("-i", "a.png"), ("-i", "a.png", "--temperature", 0.3, "-m", "own")):
        assert mindsd("chat", "a", *more).code == 2
    assert chosen == [("smollm2", None), ("tiny-vlm", None), ("own", 0.3)]


def test_a_terminal(language_model):
    """Ctrl-C ends an answer that is being said, then at the prompt the program."""
    main, end = os.openpty()
    command = [sys.executable, "-m", "mindsd.app", "chat", "-m", str(language_model)]
    more = ["--max-tokens", "230", "--seed", "5", "--temperature", "100", "--top-p", "1"]
    process = subprocess.Popen(
        [*command, *more], stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)

    def until(word, seconds=60):
        seen, limit = b"", time.monotonic() + seconds
        while word not in seen and time.monotonic() < limit:
            if select.select([main], [], [], 0.1)[0]:
                seen += os.read(main, 65536)
        assert word in seen, seen
        return seen.split(word, 1)[1]

    try:
        until(b"> ")
        os.write(main, b"hello\n")
        if len(until(b"hello\r\n")) < 8:
            select.select([main], [], [], 10)
        process.send_signal(signal.SIGINT)
        if b"> " not in until(b"(stopped)"):
            until(b"> ")
        time.sleep(0.5)  # readline would not see a signal between its prompt and its wait
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        os.close(main)
