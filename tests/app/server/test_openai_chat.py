"""OpenAI's own client chats: what it gets is what Python gets."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import defaultdict
from io import BytesIO
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from mindsd.app.server.service import Service
from mindsd.pipelines.hub import Hub
from tests.zoo.vision import colours

HELLO: Any = [{"role": "user", "content": "hello"}]
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


class Place(BaseModel):
    city: Literal["Oslo", "Rome"]


@pytest.fixture
def client(live):
    with openai.OpenAI(base_url=live.api, api_key="none", max_retries=0) as made:
        yield made


def written(hub: Hub, messages: Any = HELLO, model: str = "writes", **options: Any) -> Any:
    with hub.lease(model) as resident:
        return resident.text(messages, **options)


def joined(stream: Any) -> tuple[dict[int, str], dict[int, str], list[Any]]:
    """Texts and reasons of each choice, and all pieces."""
    texts, reasons, pieces = defaultdict(str), {}, []
    for piece in stream:
        pieces.append(piece)
        for choice in piece.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return dict(texts), reasons, pieces


def test_an_answer_is_that_of_python(client: openai.OpenAI, hub: Hub):
    told = client.chat.completions.create(
        model="writes", messages=HELLO, max_tokens=9, seed=5, temperature=0.7, stop=["q"]
    )
    expected = written(hub, max_tokens=9, seed=5, temperature=0.7, stop=["q"])
    [choice] = told.choices
    assert told.id.startswith("chatcmpl-") and told.object == "chat.completion"
    assert choice.message.role == "assistant" and choice.message.content == expected.text
    assert choice.finish_reason == expected.finish_reason
    assert told.usage is not None and told.usage.completion_tokens == expected.usage.completion
    assert told.usage.prompt_tokens == expected.usage.prompt


def test_what_is_left_out_is_as_the_model_says(
    client: openai.OpenAI, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    greedy = written(hub, max_tokens=9, temperature=0).text
    warm = written(hub, max_tokens=9, seed=5, temperature=5).text
    with hub.lease("writes") as resident:
        monkeypatch.setattr(resident.text.model, "sampling", {"temperature": 0.0})
    about: Any = {"model": "writes", "messages": HELLO, "max_tokens": 9, "seed": 5}
    cases: Any = (({}, greedy), ({"temperature": 5}, warm))
    for more, expected in cases:
        told = client.chat.completions.create(**about, **more)
        assert told.choices[0].message.content == expected
    told = client.completions.create(model="writes", prompt=[5, 6, 7], max_tokens=9, seed=5)
    assert told.choices[0].text == written(hub, [5, 6, 7], max_tokens=9, temperature=0).text


def test_a_beginning_that_was_read_before_is_told(client: openai.OpenAI):
    long: Any = [{"role": "user", "content": "a red circle " * 5}]
    usages = [
        client.chat.completions.create(model="writes", messages=long, max_tokens=1).usage
        for _ in range(2)
    ]
    cached = [own.prompt_tokens_details.cached_tokens or 0 for own in usages]  # pyright: ignore
    assert cached[0] < cached[1] < usages[1].prompt_tokens  # pyright: ignore


def test_streams_of_several_answers_say_the_same(client: openai.OpenAI, hub: Hub):
    asked: dict[str, Any] = {"model": "writes", "messages": HELLO, "max_tokens": 12, "seed": 5}
    usage: Any = {"include_usage": True}
    stream = client.chat.completions.create(**asked, n=3, stream=True, stream_options=usage)
    texts, reasons, pieces = joined(stream)
    expected = written(hub, max_tokens=12, seed=5, n=3)
    assert texts == {own.sample: own.text for own in expected}
    assert reasons == {own.sample: own.finish_reason for own in expected}
    assert [own.choices[0].delta.role for own in pieces[:3]] == ["assistant"] * 3
    assert len({own.id for own in pieces}) == 1 and pieces[-1].choices == []
    assert all(own.usage is None for own in pieces[:-1])
    assert pieces[-1].usage.completion_tokens == sum(own.usage.completion for own in expected)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client: openai.OpenAI, hub: Hub, stream: bool):
    asked: Any = {"max_completion_tokens": 6, "seed": 1, "logprobs": True, "top_logprobs": 2}
    told: Any = client.chat.completions.create(
        model="writes", messages=HELLO, stream=stream, **asked
    )
    choices = [piece.choices[0] for piece in told] if stream else told.choices
    content = [own for choice in choices if choice.logprobs for own in choice.logprobs.content]
    expected = written(hub, max_tokens=6, seed=1, logprobs=2)
    assert [own.logprob for own in content] == [own.logprob for own in expected.logprobs]
    assert [[one.logprob for one in own.top_logprobs] for own in content] == [
        [value for _, value in own.top] for own in expected.logprobs
    ]
    whole = bytes(byte for own in content for byte in own.bytes)
    assert whole.decode(errors="replace").removesuffix("</s>") == expected.text


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_tool_is_called(client: openai.OpenAI, choice: Any):
    asked: Any = {"model": "writes", "messages": HELLO, "tools": TOOLS, "tool_choice": choice}
    told = client.chat.completions.create(**asked, seed=2)
    [call] = told.choices[0].message.tool_calls or [None]
    assert told.choices[0].finish_reason == "tool_calls" and told.choices[0].message.content is None
    assert call is not None and call.type == "function" and call.function.name == "weather"
    assert Place.model_validate_json(call.function.arguments)
    with client.chat.completions.stream(**asked, seed=2) as stream:
        final = stream.get_final_completion()
    [streamed] = final.choices[0].message.tool_calls or [None]
    assert streamed is not None and streamed.function.arguments == call.function.arguments
    assert final.choices[0].finish_reason == "tool_calls"
    answered: Any = [
        *HELLO,
        told.choices[0].message.model_dump(),  # as agents send it back
        {"role": "tool", "tool_call_id": call.id, "content": "9 degrees"},
    ]
    after = client.chat.completions.create(
        model="writes", messages=answered, tools=TOOLS, tool_choice="none", max_tokens=3
    )
    assert after.choices[0].message.tool_calls is None


def test_an_answer_by_a_pydantic_model(client: openai.OpenAI):
    told = client.chat.completions.parse(model="writes", messages=HELLO, response_format=Place)
    assert told.choices[0].message.parsed in (Place(city="Oslo"), Place(city="Rome"))
    ours: Any = [({"choice": ["yes", "no"]}, ("yes", "no")), ({"regex": "a{3}"}, ("aaa",))]
    ours += [({"grammar": 'start: "b" "c"'}, ("bc",))]
    for extra, possible in ours:
        own = client.chat.completions.create(model="writes", messages=HELLO, extra_body=extra)
        assert own.choices[0].message.content in possible


def test_a_picture_is_seen(client: openai.OpenAI, hub: Hub):
    picture, buffer = colours(1, 40, 32), BytesIO()
    picture.save(buffer, "PNG")
    url = f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
    said: Any = {"type": "text", "text": "What is it?"}
    shown: Any = {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}
    messages: Any = [{"role": "user", "content": [shown, said]}]
    told = client.chat.completions.create(model="sees", messages=messages, max_tokens=8, seed=3)
    image: Any = {"type": "image", "image": picture}
    expected = written(
        hub, [{"role": "user", "content": [image, said]}], "sees", max_tokens=8, seed=3
    )
    assert told.choices[0].message.content == expected.text
    bad = {"url": "https://example.org/a.png"}
    for url in (bad, {"url": "data:image/png;base64,AAAA"}, {"url": "/etc/hostname"}):
        shown["image_url"] = url
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="sees", messages=messages)
        assert refused.value.param == "messages"


def test_developers_and_parts_and_nulls(client: openai.OpenAI, hub: Hub):
    messages: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    nulls = dict.fromkeys(["stop", "tools", "response_format", "seed", "audio", "top_k", "user"])
    told = client.chat.completions.create(
        model="writes", messages=messages, temperature=0, max_tokens=5, extra_body=nulls
    )
    system = [{"role": "system", "content": "Be"}, {"role": "user", "content": "a\nb"}]
    expected = written(hub, system, temperature=0, max_tokens=5)
    assert told.choices[0].message.content == expected.text


def test_what_room_is_left_is_used(client: openai.OpenAI):
    told = client.chat.completions.create(
        model="writes", messages=HELLO, extra_body={"ignore_eos": True}
    )
    assert told.usage is not None and told.usage.total_tokens == 256
    assert told.choices[0].finish_reason == "length"
    with pytest.raises(openai.BadRequestError, match="ask for at most"):
        client.chat.completions.create(model="writes", messages=HELLO, max_tokens=250)


def test_refused_before_a_stream_and_in_it(client: openai.OpenAI, live, monkeypatch):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nothing", messages=HELLO, stream=True)
    with pytest.raises(openai.BadRequestError, match="draws pictures"):
        client.chat.completions.create(model="draws", messages=HELLO, stream=True)
    stream = client.chat.completions.create(
        model="writes", messages=HELLO, stream=True, extra_body={"ignore_eos": True}
    )
    with pytest.raises(openai.APIError, match="cancelled"):
        for _ in stream:
            job = stream.response.headers["X-Job-Id"]
            client.delete(f"/jobs/{job}", cast_to=object)


def test_the_async_client_and_many_at_once(live, hub: Hub):
    async def ask(client: openai.AsyncOpenAI, seed: int) -> str:
        asked: Any = {"model": "writes", "messages": HELLO, "max_tokens": 10, "seed": seed}
        if seed % 2:
            told = await client.chat.completions.create(**asked)
            return told.choices[0].message.content or ""
        stream = await client.chat.completions.create(**asked, stream=True)
        return "".join([own.choices[0].delta.content or "" async for own in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=live.api, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(8)))

    expected = [written(hub, max_tokens=10, seed=seed).text for seed in range(8)]
    assert asyncio.run(all_of_them()) == expected
    assert isinstance(live.service, Service) and live.service.taken == 0
