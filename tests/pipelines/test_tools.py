"""Calls are found in every form, whole or in pieces, and what is no call stays text."""

import json
import random
import re

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mindsd.errors import RequestError
from mindsd.pipelines.tools import (
    ToolStream,
    parse_tools,
    templated_calls,
    tool_calls,
    tool_constraint,
)

WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"$ref": "#/$defs/few"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"few": {"type": "integer", "minimum": 1, "maximum": 9}},
}
ASKED = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now", "description": "The time."}},
]
TOOLS = parse_tools(ASKED)
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
LLAMA = '{"name": "weather", "parameters": {"city": "Oslo"}}'
NOW = '{"name": "now", "arguments": {}}'
OSLO = ("weather", '{"city": "Oslo"}')

CASES = [  # text, what is left of it, calls
    ("no call at all\n", "no call at all\n", []),
    ("", "", []),
    (f"<tool_call>\n{CALL}\n</tool_call>", "", [OSLO]),
    (f"Let me see.\n\n<tool_call>{CALL}</tool_call>\n", "Let me see.", [OSLO]),
    (
        f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{NOW}\n</tool_call>",
        "",
        [OSLO, ("now", "{}")],
    ),
    (f"one <tool_call>{CALL}</tool_call> two", "one two", [OSLO]),
    (f"<tool_call>{CALL}", "", [OSLO]),
    ('<tool_call>{"name": "other", "arguments": {}}</tool_call>', "", [("other", "{}")]),
    (
        '<tool_call>{"name": "f", "arguments": {"a": "</tool_call> \\" } é"}}</tool_call>',
        "",
        [("f", '{"a": "</tool_call> \\" } é"}')],
    ),
    ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
    (LLAMA, "", [OSLO]),
    (f" {LLAMA}; {LLAMA}\n", "", [OSLO, OSLO]),
    (f"<|python_tag|>{LLAMA}; {LLAMA}", "", [OSLO, OSLO]),
    (f"[TOOL_CALLS][{CALL}, {NOW}]", "", [OSLO, ("now", "{}")]),
    (f"[TOOL_CALLS] [{CALL}]", "", [OSLO]),
    (f"So:\n```json\n{CALL}\n```\nDone.", "So:\nDone.", [OSLO]),
    *[
        (text, text, [])
        for text in (
            "<tool_call> is a mark",
            '<tool_call>{"name": "weather"</tool_call>',
            '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
            '<tool_call>{"arguments": {}}</tool_call>',
            f"<tool_call>{CALL} and more",
            '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
            '<tool_call>{"name": "f", "arguments": {"a": 1e999}}</tool_call>',
            '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>',
            "<tool_call>" + "[" * 10 + '{"a":' * 2000,
            '```json\n{"name": "other", "arguments": {}}\n```',
            '```json\n{"a": [1, 2]}\n```\n',
            '{"name": "other", "parameters": {}}',
            '{"name": "weather"}',
            '{"answer": {"name": "weather", "parameters": {}}}',
            f"It is {LLAMA}",
            "[TOOL_CALLS][]",
            "[TOOL_CALLS]nothing",
            "<tool_ca",
            "{",
            "  \n",
        )
    ],
    (
        f'<tool_call>{{"name": "x}}</tool_call> <tool_call>{CALL}</tool_call>',
        '<tool_call>{"name": "x}</tool_call>',
        [OSLO],
    ),
]


def plain(calls):
    return [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize("text, left, calls", CASES)
def test_a_whole_answer(text, left, calls):
    shown, found = tool_calls(text, TOOLS)
    assert (shown, plain(found)) == (left, calls)
    assert all(isinstance(json.loads(call.arguments), dict) for call in found)


def streamed(text, chance):
    stream, shown, place = ToolStream(TOOLS), "", 0
    while place < len(text):
        end = place + chance.randint(1, 9)
        shown += stream.push(text[place:end])
        place = end
    rest, calls = stream.finish()
    return shown + rest, calls


@pytest.mark.parametrize("text, left, calls", [case for case in CASES if len(case[0]) < 2000])
def test_pieces_say_the_same(text, left, calls):
    chance = random.Random(1)
    assert all(streamed(text, chance) == tool_calls(text, TOOLS) for _ in range(15))


def test_random_texts_in_random_pieces():
    chance = random.Random(2)
    parts = [CALL, LLAMA, NOW, f"[{CALL}]", "<tool_call>", "</tool_call>", "<|python_tag|>", "text"]
    parts += ["[TOOL_CALLS]", "```json", "```", "\n", " ", ";", "{", "}", '"', "<", '{"name": ']
    for _ in range(1200):
        text = "".join(chance.choices(parts, k=chance.randint(0, 9)))
        shown, calls = tool_calls(text, TOOLS)
        assert streamed(text, chance) == (shown, calls)
        if not calls:
            assert shown == text


def test_what_is_certain_is_shown_at_once():
    stream = ToolStream(TOOLS)
    assert [stream.push(part) for part in ("Hello ", "the", "re <tool", "s> <tool_call>", "x")] == [
        *("Hello", " the", "re", " <tools>", " <tool_call>x")
    ]
    answer = ToolStream(TOOLS)
    assert answer.push('{"ans') == '{"ans'  # no call begins so: a JSON answer is not held back
    assert answer.push('wer": 1') == 'wer": 1'
    call = ToolStream(TOOLS)
    assert call.push(f"<tool_call>{CALL}</tool_call") == "" and call.calls == []
    assert call.push(">") == "" and plain(call.calls) == [OSLO]


def test_ids_differ_within_and_between_answers():
    text = f"<|python_tag|>{LLAMA};{LLAMA}"
    ids = [call.id for salt in ("a", "b") for call in tool_calls(text, TOOLS, salt)[1]]
    assert len(set(ids)) == 4 and all(re.fullmatch("call_[0-9a-f]{24}", own) for own in ids)
    assert tool_calls(text, TOOLS, "a") == tool_calls(text, TOOLS, "a")


def test_without_tools_everything_is_text():
    for text, _, _ in CASES:
        assert tool_calls(text, ()) == (text, [])


def test_tools_are_parsed():
    assert [tool.name for tool in TOOLS] == ["weather", "now"]
    assert json.loads(TOOLS[0].parameters) == WEATHER
    assert TOOLS[1].parameters == '{"type":"object"}' and TOOLS[1].description == "The time."
    assert parse_tools([]) == ()


def function(**fields):
    return [{"type": "function", "function": {"name": "f", **fields}}]


@pytest.mark.parametrize(
    "tools, said",
    [
        ({}, "a list"),
        (ASKED * 65, "at most 128"),
        ([1], "tool 0"),
        ([{"type": "retrieval", "function": {"name": "f"}}], "tool 0"),
        (function(name="a b"), "name"),
        (function(name="a" * 65), "name"),
        (function(name=None), "name"),
        (function(name="f\n"), "name"),
        (function() * 2, "two tools have the name 'f'"),
        (function(parameters={"type": "array"}), '"type": "object"'),
        (function(parameters=[1]), '"type": "object"'),
        (
            function(parameters={"type": "object", "a": {"$ref": "http://x"}}),
            "tool 'f' .* leads out",
        ),
        (function(description=3), "description"),
    ],
)
def test_wrong_tools_are_refused(tools, said):
    with pytest.raises(RequestError, match=said):
        parse_tools(tools)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_free_choice_is_no_constraint(choice):
    assert tool_constraint(TOOLS, choice) is None


@pytest.mark.parametrize(
    "choice", ["always", {"type": "function", "function": {"name": "g"}}, {"function": 1}, 7]
)
def test_a_wrong_choice_is_refused(choice):
    with pytest.raises(RequestError, match="tool_choice"):
        tool_constraint(TOOLS, choice)
    with pytest.raises(RequestError, match="none of the 0 tools"):
        tool_constraint((), "required")


def letters():
    """A tokenizer of single bytes and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["</s>", *alphabet])}, merges=[]))
    made.add_special_tokens(["</s>"])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


@pytest.mark.parametrize("name", [None, "weather", "now"])
def test_a_constrained_answer_is_one_call(name):
    pytest.importorskip("llguidance")
    from mindsd.sampling.grammar import GrammarCompiler

    tokenizer = letters()
    choice = {"type": "function", "function": {"name": name}} if name else "required"
    constraint = tool_constraint(TOOLS[: None if name else 1], choice)
    assert constraint is not None
    start = GrammarCompiler(tokenizer, 257, [0]).compile(constraint)
    for seed in range(8):
        grammar, chance, tokens = start.copy(), random.Random(seed), []
        while not grammar.finished:
            allowed = grammar.mask().nonzero().flatten().tolist()
            closing = [t for t in allowed if name == "now" and tokenizer.decode([t]) == "}"]
            tokens.append(chance.choice(closing or allowed))
            grammar.accept(tokens[-1])
        left, calls = tool_calls(tokenizer.decode(tokens), TOOLS)
        assert left == "" and [call.name for call in calls] == [name or "weather"]
        told = json.loads(calls[0].arguments)
        if name == "now":
            assert told == {}
        else:
            assert told.pop("city") in ("Oslo", "Rome") and told.pop("days", 1) in range(1, 10)
            assert not told


TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<a>",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\s*<call>",
            "close": "</call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<end>", "content": "text"},
    },
}


def test_a_response_template_is_used_where_there_is_one():
    fast = PreTrainedTokenizerFast(tokenizer_object=letters(), eos_token="</s>")
    assert templated_calls(fast, "a", "<a>", TOOLS) is None
    fast.response_template = TEMPLATE
    text = f"<think>hm</think>Well.<call>{CALL}</call><call>{NOW}</call><end>"
    found = templated_calls(fast, text, "<a>", TOOLS)
    assert found is not None
    thoughts, left, calls = found
    assert (thoughts, left, plain(calls)) == ("hm", "Well.", [OSLO, ("now", "{}")])
    days = '{"name": "weather", "arguments": {"city": "Rome", "days": "3"}}'
    whole = {"type": "object", "properties": {"days": {"type": "integer"}}}
    found = templated_calls(
        fast, f"<call>{days}</call>", "<a>", parse_tools(function(name="weather", parameters=whole))
    )
    assert found is not None and plain(found[2]) == [("weather", '{"city": "Rome", "days": 3}')]
    assert templated_calls(fast, "<call>{broken</call>", "<a>", TOOLS) is None
    assert templated_calls(fast, '<call>{"name": 1}</call>', "<a>", TOOLS) is None
