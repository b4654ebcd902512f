"""What is shown of an answer, on a terminal and elsewhere."""

import pytest

from mindsd.app.speech import Speech

THOUGHT = ["<thi", "nk>is it?", "</think>\n\nIt ", "is \x1b[31mred\x07.\n"]


@pytest.fixture
def say(capsys):
    def run(pieces, thinking=False):
        speech = Speech(thinking)
        for piece in pieces:
            speech.push(piece)
        speech.finish()
        return capsys.readouterr().out, speech.answer

    return run


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("mindsd.app.speech.is_terminal", lambda: True)


def test_elsewhere_only_the_answer_as_it_is(say):
    out, answer = say(THOUGHT)
    assert answer == "It is \x1b[31mred\x07.\n" and out == f"{answer}\n"


def test_a_terminal_shows_thoughts_dimmed_and_is_not_steered(say, terminal):
    out, answer = say(THOUGHT)
    assert out == "\x1b[2mis it?\x1b[0m\n\nIt is [31mred.\n\n" and "is it" not in answer


def test_thoughts_that_never_end(say, terminal):
    assert say(["is it", "?"], thinking=True) == ("\x1b[2mis it?\x1b[0m\n", "")


def test_it_comes_while_it_is_said(capsys):
    speech = Speech()
    speech.push("It is")
    assert capsys.readouterr().out == "It is"
