"""Thoughts and answer come apart the same way, whole or in any pieces."""

import random

import pytest

from mindsd.pipelines.reasoning import ReasoningStream, doubtful, split_reasoning

CASES = [  # opened, text, thoughts, answer
    (False, "just an answer", None, "just an answer"),
    (False, "", None, ""),
    (False, "  kept", None, "  kept"),
    (False, "<think>\nfirst\n\nthen\n</think>\n\nthe answer\n", "first\n\nthen", "the answer\n"),
    (False, "\n<think>a</think>b", "a", "b"),
    (False, "<think>\n\n</think>\n\nfast", None, "fast"),
    (False, "<think>never closed \n", "never closed", ""),
    (False, "<think>a < b </thin </think>c", "a < b </thin", "c"),
    (False, "<thin", None, "<thin"),
    (False, "<thinner>", None, "<thinner>"),
    (
        False,
        "the mark <think> is told </think> here",
        None,
        "the mark <think> is told </think> here",
    ),
    (False, "<think>a</think>b <think>c</think>", "a", "b <think>c</think>"),
    (True, "a\n</think>\n\nb", "a", "b"),
    (True, "<think>\na</think>b", "a", "b"),
    (True, "still at it </thi", "still at it </thi", ""),
    (True, "", None, ""),
    (True, "<th", "<th", ""),
    (True, "</think>b", None, "b"),
]


@pytest.mark.parametrize("opened, text, thoughts, answer", CASES)
def test_a_whole_text(opened, text, thoughts, answer):
    assert split_reasoning(text, opened) == (thoughts, answer)


def streamed(text, opened, chance):
    stream, pieces, place = ReasoningStream(opened), [], 0
    while place < len(text):
        end = place + chance.randint(1, 6)
        pieces += stream.push(text[place:end])
        place = end
    pieces += stream.finish()
    assert all(own for _, own in pieces) and stream.finish() == []
    kinds = [kind for kind, _ in pieces]
    assert kinds == sorted(kinds, reverse=True)  # thoughts come first
    thoughts, answer = (
        "".join(t for k, t in pieces if k == kind) for kind in ("reasoning", "answer")
    )
    return thoughts or None, answer


@pytest.mark.parametrize("opened, text, thoughts, answer", CASES)
def test_pieces_say_the_same(opened, text, thoughts, answer):
    chance = random.Random(1)
    assert all(streamed(text, opened, chance) == (thoughts, answer) for _ in range(20))


def test_random_texts_in_random_pieces():
    chance = random.Random(2)
    parts = ["<think>", "</think>", "<", "</", "think>", "\n", " ", "word", "é"]
    for _ in range(1500):
        text = "".join(chance.choices(parts, k=chance.randint(0, 12)))
        opened = chance.random() < 0.5
        assert streamed(text, opened, chance) == split_reasoning(text, opened)


def test_what_is_certain_is_shown_at_once():
    stream = ReasoningStream()
    assert stream.push("<think>so") == [("reasoning", "so")]
    assert stream.push(" far <") == [("reasoning", " far")]
    assert stream.push("b</think>yes") == [("reasoning", " <b"), ("answer", "yes")]
    assert stream.push(" </think") == [("answer", " </think")]


def test_what_may_become_a_mark():
    assert doubtful("abc<to", ["<tool>", "[x]"]) == 3
    assert doubtful("<tool>", ["<tool>"]) == 0
    assert doubtful("", ["<tool>"]) == 0
    assert doubtful("<<", ["<tool>", "<<<"]) == 2
