"""A stream's deltas, joined, are the whole answer, however it was cut."""

from __future__ import annotations

import random

import pytest

from mindsd.app.server.chat_delta import ChatDelta
from mindsd.pipelines.reasoning import split_reasoning
from mindsd.pipelines.text_result import TokenLogprob
from mindsd.pipelines.tools import parse_tools, tool_calls
from mindsd.request import Piece

TOOLS = parse_tools([{"type": "function", "function": {"name": "now"}}])
NOW = '<tool_call>\n{"name": "now", "arguments": {"a": "é"}}\n</tool_call>'
TEXTS = [
    "plain text",
    "<think>\nhm, <tool_call>\n</think>\n\nwell: " + NOW,
    f"{NOW}\n{NOW}",
    "<think>never ended",
    '<tool_call>{"name": "now", ',
    "",
]


def told(text: str, cut: random.Random, **options: object) -> list[dict]:
    own, deltas = ChatDelta(TOOLS, **options), []  # pyright: ignore
    while text:
        size = cut.randint(1, 9)
        deltas += own.push(Piece(0, text[:size], (1,)))
        text = text[size:]
    return deltas + own.finish()


@pytest.mark.parametrize("text", TEXTS)
def test_joined_they_are_the_answer(text: str):
    thoughts, rest = split_reasoning(text)
    content, calls = tool_calls(rest, TOOLS)
    for seed in range(20):
        deltas = told(text, random.Random(seed))
        assert "".join(own.get("content", "") for own in deltas) == content
        assert "".join(own.get("reasoning_content", "") for own in deltas) == (thoughts or "")
        found = [call for own in deltas for call in own.get("tool_calls", ())]
        assert [call["index"] for call in found] == list(range(len(calls)))
        assert [call["function"]["arguments"] for call in found] == [c.arguments for c in calls]
        assert len({call["id"] for call in found}) == len(calls)
        assert all(own for own in deltas)


def test_only_the_first_call_where_more_are_not_wanted():
    deltas = told(f"{NOW}{NOW}{NOW}", random.Random(1), most_calls=1)
    assert [call["index"] for own in deltas for call in own["tool_calls"]] == [0]


def test_it_begins_inside_the_thoughts_and_keeps_logprobs_until_asked():
    own = ChatDelta(())
    logprobs = (TokenLogprob(7, -0.5), TokenLogprob(8, -0.25))
    assert own.push(Piece(0, "hm</thi", (7,), logprobs[:1], True)) == [{"reasoning_content": "hm"}]
    assert own.push(Piece(0, "nk>", (8,), logprobs[1:], True)) == []
    assert own.logprobs() == list(logprobs) and own.logprobs() == []
    assert own.push(Piece(0, "a", (9,), None, True)) == [{"content": "a"}]
