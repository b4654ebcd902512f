"""What is wrong with a body is said in words for people."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mindsd.app.server.bodies import Body
from mindsd.app.server.chat_body import ChatBody
from mindsd.app.server.complaint import complaint
from mindsd.app.server.completion_body import CompletionBody
from mindsd.app.server.image_bodies import EditBody, ImageBody

USER: dict[str, Any] = {"role": "user", "content": "a"}


def told(error: ValidationError, body: type[Body]) -> tuple[str, str]:
    return complaint(error.errors(), body)


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        ({"size": "512"}, "size", "WIDTHxHEIGHT in pixels, as 512x512, sides to 4096, or auto"),
        ({"step": 2}, "step", "there is no such field; did you mean steps?"),
        ({"zzz": 2}, "zzz", "there is no such field"),
        ({"steps": 0}, "steps", "it should be at least 1"),
        ({"steps": "2"}, "steps", "it should be a whole number"),
        ({"guidance": "2"}, "guidance", "it should be a number"),
        ({"stream": 1}, "stream", "it should be true or false"),
        ({"model": "../a"}, "model", "it should be an id: letters, digits, dots, _ and -"),
        ({"style": "vivid"}, "style", "it should be 'auto'"),
        ({"loras": {"../ink": 1.0}}, "loras", "it should be an id"),
        ({"size": "9000x9000"}, "size", "a side has at most 4096 pixels"),
        ({"prompt": None}, "prompt", "it should be a text"),
        ({"prompt": "a" * 10_001}, "prompt", "it should have at most 10000 characters"),
    ],
)
def test_of_an_image(fields, where, said):
    with pytest.raises(ValidationError) as refused:
        ImageBody.model_validate({"prompt": "a", **fields})
    field, words = told(refused.value, ImageBody)
    assert field == where and said in words


def test_of_a_form():
    for name, said in (("step", "did you mean steps?"), ("n", "it should be a whole number")):
        with pytest.raises(ValidationError) as refused:
            EditBody.model_validate_strings({"prompt": "a", name: "many"})
        assert said in told(refused.value, EditBody)[1]


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        ({"messages": []}, "messages", "it is empty; it should have at least 1"),
        ({"messages": None}, "messages", "it should be a list"),
        ({"messages": ["a"]}, "messages.0", "it should be an object"),
        (
            {"messages": [USER | {"role": "boss"}]},
            "messages.0",
            "'role' should be one of 'system', 'developer', 'user', 'assistant', 'tool'",
        ),
        ({"messages": [{"content": "a"}]}, "messages.0", "'role' is missing"),
        ({"messages": [{"role": "user"}]}, "messages.0.user.content", "it is missing"),
        (
            {"messages": [{"role": "user", "contnet": "a"}]},
            "messages.0.user.contnet",
            "there is no such field",
        ),
        ({"messages": [USER | {"content": []}]}, "messages.0.user.content", "it is empty"),
        ({"max_token": 3}, "max_token", "did you mean max_tokens?"),
        ({"tool_choice": "some"}, "tool_choice", "it should be 'none', 'auto' or 'required'"),
        ({"top_p": 0}, "top_p", "it should be over 0"),
        ({"stop": [""]}, "stop.0", "it is empty"),
        ({"temperature": "hot"}, "temperature", "it should be a number"),
        ({"audio": {}}, "audio", "nothing is spoken here"),
    ],
)
def test_of_a_chat(fields, where, said):
    with pytest.raises(ValidationError) as refused:
        ChatBody.model_validate({"model": "a", "messages": [USER], **fields})
    field, words = told(refused.value, ChatBody)
    assert field == where and said in words and "nput" not in words


def test_of_a_completion():
    with pytest.raises(ValidationError) as refused:
        CompletionBody.model_validate({"model": "a", "prompt": []})
    assert told(refused.value, CompletionBody) == (
        "prompt",
        "it is empty; it should have at least 1",
    )

    with pytest.raises(ValidationError) as refused:
        CompletionBody.model_validate({"model": "a", "promt": "a"})
    assert told(refused.value, CompletionBody)[1] == "there is no such field; did you mean prompt?"


def test_over_http(served):
    async def body(client, service):
        async def said(**sent: Any) -> dict[str, Any]:
            return (await client.post("/v1/images/generations", **sent)).json()["error"]

        assert (await said(json={"prompt": "a", "step": 2}))["message"] == (
            "step: there is no such field; did you mean steps?"
        )
        assert (await said(json={"prompt": "a", "step": 2}))["param"] == "step"
        form = {"prompt": "a", "step": "2"}
        edit = await client.post("/v1/images/edits", data=form, files={"image": b"a"})
        assert edit.json()["error"]["message"].endswith("did you mean steps?")
        told = await said(content=b"{", headers={"Content-Type": "application/json"})
        assert told["message"] == "the body: it is not JSON" and told["param"] is None
        assert "sent as Content-Type" in (await said(content=b"a"))["message"]
        near = await said(json={"prompt": "a", "speed": "fsat"})
        assert near["message"] == "no speed 'fsat'; did you mean fast?"

    served(body)


def test_what_is_not_offered_names_what_is(served):
    async def body(client, service):
        for path, said in (
            ("responses", "ask /v1/chat/completions"),
            ("embeddings", "embeddings are not offered"),
            ("images/variations", "/v1/images/edits draws a picture anew"),
            ("zzz", "there is nothing here; /openapi.json tells what is"),
        ):
            answer = await client.post(f"/v1/{path}", json={})
            assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"
            assert said in answer.json()["error"]["message"]

    served(body)
