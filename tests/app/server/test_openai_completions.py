"""OpenAI's own client has texts gone on with."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import openai
import pytest

from mindsd.pipelines.hub import Hub


@pytest.fixture
def client(live):
    with openai.OpenAI(base_url=live.api, api_key="none", max_retries=0) as made:
        yield made


def written(hub: Hub, prompt: Any, **options: Any) -> Any:
    with hub.lease("writes") as resident:
        return resident.text(prompt, chat=False, **options)


def test_several_prompts_and_answers(client: openai.OpenAI, hub: Hub):
    asked: Any = {"model": "writes", "prompt": ["The capital", "A red"], "n": 2, "seed": 3}
    told = client.completions.create(**asked, max_tokens=6, echo=True)
    own = [written(hub, prompt, n=2, seed=3, max_tokens=6) for prompt in asked["prompt"]]
    expected = [
        prompt + one.text for prompt, many in zip(asked["prompt"], own, strict=True) for one in many
    ]
    assert [choice.text for choice in told.choices] == expected
    assert [choice.index for choice in told.choices] == [0, 1, 2, 3]
    assert told.id.startswith("cmpl-") and told.object == "text_completion" and told.usage
    assert told.usage.prompt_tokens == sum(many[0].usage.prompt for many in own)
    texts, reasons = defaultdict(str), {}
    for piece in client.completions.create(**asked, max_tokens=6, echo=True, stream=True):
        for choice in piece.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    assert [texts[index] for index in range(4)] == expected
    assert reasons == {choice.index: choice.finish_reason for choice in told.choices}


def test_tokens_are_taken_as_they_are(client: openai.OpenAI, hub: Hub):
    told = client.completions.create(model="writes", prompt=[5, 6, 7], max_tokens=4, temperature=0)
    assert told.choices[0].text == written(hub, [5, 6, 7], max_tokens=4, temperature=0).text
    both = client.completions.create(model="writes", prompt=[[5, 6, 7], [8]], max_tokens=4)
    assert len(both.choices) == 2 and both.usage and both.usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError, match="none of this model's"):
        client.completions.create(model="writes", prompt=[9_999_999])


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client: openai.OpenAI, hub: Hub, stream: bool):
    asked: Any = {"prompt": "The capital", "max_tokens": 6, "seed": 4, "logprobs": 2}
    told: Any = client.completions.create(model="writes", stream=stream, **asked)
    logprobs = [
        piece.choices[0].logprobs for piece in (told if stream else [told]) if piece.choices
    ]
    expected = written(hub, "The capital", max_tokens=6, seed=4, logprobs=2)
    values = [value for own in logprobs for value in own.token_logprobs]
    assert values == [own.logprob for own in expected.logprobs]
    assert all(len(top) == 2 for own in logprobs for top in own.top_logprobs)
    assert logprobs[0].text_offset[0] == 0


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_is_not_done_is_refused_by_name(client: openai.OpenAI, wrong: Any, word: str):
    with pytest.raises(openai.BadRequestError, match=word):
        client.completions.create(model="writes", prompt="a", extra_body=wrong)
    for prompt in ([], "", [[]], ["a", 1], {"a": 1}):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="writes", prompt=prompt)  # pyright: ignore
