"""What may be asked of a text: bounded, nothing unknown, null as left out, refusals by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mindsd.app.server.chat_body import NOT_DONE, ChatBody
from mindsd.app.server.chat_form import constraint_of, tools_of
from mindsd.app.server.chat_message import told
from mindsd.app.server.completion_body import CompletionBody
from mindsd.errors import RequestError

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


def chat(**more: Any) -> ChatBody:
    said = {"model": "writes", "messages": [{"role": "user", "content": "a"}]}
    return ChatBody.model_validate(said | more)


def messages(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return told(chat(messages=list(given)).messages, lambda url: f"picture of {url}")


def test_null_is_left_out_in_every_field_but_two():
    optional = set(ChatBody.model_fields) - {"model", "messages"}
    body = chat(**dict.fromkeys(optional))
    assert body == chat() and body.options() == {}
    optional = set(CompletionBody.model_fields) - {"model", "prompt"}
    given = {"model": "writes", "prompt": "a"}
    assert CompletionBody.model_validate(given | dict.fromkeys(optional)).options() == {}


def test_what_is_asked_goes_to_the_engine_by_its_names():
    body = chat(max_completion_tokens=5, logprobs=True, top_k=3, stop=["a"], n=2, choice=["x"])
    expected = {"max_tokens": 5, "logprobs": 0, "top_k": 3, "stop": ["a"], "n": 2, "choice": ["x"]}
    assert body.options() == expected
    assert chat(stop=[], logprobs=False).options() == {}


@pytest.mark.parametrize("name", NOT_DONE)
def test_what_is_not_done_is_named(name: str):
    with pytest.raises(ValidationError) as refused:
        chat(**{name: "low"})
    assert refused.value.errors()[0]["loc"] == (name,) and NOT_DONE[name] in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"chat_template": "{{ x }}"},
        {"chat_template_kwargs": {}},
        {"n": 0},
        {"n": 129},
        {"n": 1.5},
        {"n": True},
        {"stream": 0},
        {"temperature": float("nan")},
        {"temperature": -0.1},
        {"top_p": 0},
        {"max_tokens": 0},
        {"max_tokens": 2**40},
        {"max_tokens": 3, "max_completion_tokens": 4},
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 21},
        {"stop": ["a"] * 17},
        {"stop": [""]},
        {"logit_bias": {"a": 1}},
        {"logit_bias": {"1": 101}},
        {"stream_options": {"include_usage": True}},
        {"store": True},
        {"tools": [TOOL] * 129},
        {"tools": [TOOL], "response_format": SCHEMA},
        {"tools": [TOOL], "regex": "a"},
        {"regex": "a" * 513},
        {"messages": []},
        {"messages": [{"role": "user", "content": "a" * (2**20 + 1)}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "/etc/hostname"}]}]},
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "tool", "content": "a"}]},
    ],
)
def test_what_cannot_be_is_refused(wrong: Any):
    with pytest.raises(ValidationError):
        chat(**wrong)


def test_messages_come_as_the_pipelines_take_them():
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    text = {"type": "text", "text": "b"}
    given = messages(
        {"role": "user", "content": [image, text]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
        {"role": "tool", "content": "9", "tool_call_id": "1"},
        {"role": "assistant", "content": "c", "reasoning_content": "hm", "annotations": []},
        {"role": "assistant"},
    )
    assert given[0]["content"] == [{"type": "image", "image": "picture of data:x"}, text]
    called = CALL | {"function": {"name": "f", "arguments": {"a": 1}}}
    assert given[1] == {"role": "assistant", "content": None, "tool_calls": [called]}
    assert given[2] == {"role": "tool", "content": "9", "tool_call_id": "1"}
    assert given[3] == {"role": "assistant", "content": "c", "reasoning_content": "hm"}
    assert given[4] == {"role": "assistant", "content": ""}
    broken = CALL | {"function": {"name": "f", "arguments": "{"}}
    assert messages({"role": "assistant", "tool_calls": [broken]})[0]["tool_calls"] == [broken]


def test_forms_and_tools():
    assert (
        constraint_of(None)
        == constraint_of(chat(response_format={"type": "text"}).response_format)
        == {}
    )
    assert constraint_of(chat(response_format={"type": "json_object"}).response_format) == {
        "json_object": True
    }
    assert constraint_of(chat(response_format=SCHEMA).response_format) == {
        "json_schema": '{"type":"object"}'
    }
    strict = {"type": "function", "function": TOOL["function"] | {"strict": True}}
    assert tools_of(chat(tools=[strict]).tools) == [TOOL] and tools_of([]) is None
    for pattern, fits in (("a" * 512, True), ('"' * 513, False)):
        form = {"name": "n", "schema": {"properties": {"a": {"pattern": pattern}}}}
        body = chat(response_format={"type": "json_schema", "json_schema": form})
        if fits:
            assert constraint_of(body.response_format)
        else:
            with pytest.raises(RequestError, match="a pattern has 513 characters"):
                constraint_of(body.response_format)
