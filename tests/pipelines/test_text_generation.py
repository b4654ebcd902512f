"""Text: the tokens of transformers' own `generate`, whatever runs beside and however it is cut."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mindsd.batching.tokens import Budget
from mindsd.engine import Engine
from mindsd.errors import Cancelled, EngineClosed, RequestError
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Piece
from tests.zoo.decoders import DECODERS, decoder, generated, prompts
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer

NEW = 10
GREEDY = {"temperature": 0, "max_tokens": NEW, "ignore_eos": True}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module", params=DECODERS)
def known(request) -> tuple[Any, list[list[int]], list[list[int]]]:
    """A model, sixteen prompts, and what `generate` makes of each alone."""
    model = decoder(request.param)
    texts = prompts(16)
    return model, texts, [generated(model, text, NEW) for text in texts]


@pytest.fixture
def llm(tokenizer) -> Iterator[TextGeneration]:
    words = len(tokenizer)
    with TextGeneration.load(tiny_llama(words, max_position_embeddings=256), tokenizer) as own:
        yield own


def loaded(
    model: Any, tokenizer: Any, chunk: int = 512, blocks: int = 0, **cache
) -> TextGeneration:
    """With forwards of so many tokens, and memory for so many blocks of four."""
    own = TextGeneration.load(
        model, tokenizer, cache=CacheOptions(block=4, **cache), budget=Budget(chunk)
    )
    if blocks:
        assert own.model.packed is not None
        memory = blocks * 4 * own.model.packed.token_bytes["auto"]
        own.close()
        return loaded(model, tokenizer, chunk, memory=memory)
    return own


def at_rest(own: TextGeneration) -> None:
    """No block is held, none is lost."""
    for lane in own.model.runner.lanes:
        lane.pool.check()
        assert lane.pool.counts[1] == 0


@pytest.mark.parametrize("chunk", [1, 13, 512])
def test_greedy_tokens_are_those_of_generate(known, tokenizer, chunk):
    model, texts, expected = known
    with loaded(model, tokenizer, chunk) as own:
        assert own.model.why_plain is None
        results = own(texts, **GREEDY)
        assert [list(one.tokens) for one in results] == expected
        again = own(texts[:4], **GREEDY)  # their prompts are found in the cache
        assert [list(one.tokens) for one in again] == expected[:4]
        assert any(one.usage.cached for one in again)
        at_rest(own)


def test_preempted_sequences_come_to_the_same_end(known, tokenizer):
    model, texts, expected = known
    with loaded(model, tokenizer, 64, blocks=15) as own:
        gate = threading.Event()
        own.engine.submit(lambda request: gate.wait(10))  # until all are there
        requests = [own.submit(text, **GREEDY) for text in texts]
        gate.set()
        assert [list(one.result()[0].tokens) for one in requests] == expected
        if any(lane.window is None for lane in own.model.runner.lanes):  # a window makes room
            assert own.model.runner.counts.preempted > 0
        at_rest(own)


def test_the_model_is_as_it_was(tokenizer):
    model = decoder("llama")
    text = prompts(1)[0]
    before = generated(model, text, NEW)
    loaded(model, tokenizer).close()
    assert model.config._attn_implementation == "sdpa"
    assert generated(model, text, NEW) == before


def test_a_list_for_a_list_and_one_for_one(llm):
    assert isinstance(llm(["a", "b"], max_tokens=2, chat=False), list)
    assert llm("a", max_tokens=2, chat=False).usage.completion == 2
    assert len(llm([[{"role": "user", "content": "a"}]], max_tokens=2)) == 1
    assert llm([5, 6, 7], max_tokens=2).usage.prompt == 3
    assert llm([], max_tokens=2) == []


def test_samples_share_the_prompt_and_differ(llm):
    prompt = list(range(3, 103))
    results = llm(prompt, n=4, seed=3, max_tokens=8, temperature=1.5, ignore_eos=True)
    assert [one.sample for one in results] == [0, 1, 2, 3]
    assert len({one.tokens for one in results}) == 4
    assert llm.model.runner.counts.computed < 100 + 4 * 8 + 4
    again = llm(prompt, seed=3, max_tokens=8, temperature=1.5, ignore_eos=True)
    assert again.tokens == results[0].tokens  # the first sample has the request's own seed
    at_rest(llm)


def test_the_same_seed_says_the_same_in_any_company(llm):
    wish = {"seed": 5, "temperature": 1.2, "top_p": 0.9, "max_tokens": 10, "ignore_eos": True}
    alone = llm(list(range(10, 30)), **wish).tokens
    requests = [llm.submit(text, seed=i, max_tokens=20) for i, text in enumerate(prompts(9))]
    beside = llm(list(range(10, 30)), **wish).tokens
    assert beside == alone
    for request in requests:
        request.result()


def test_a_stream_is_the_text_and_ends_with_its_listener(llm):
    whole = llm("The capital", max_tokens=30, temperature=0, chat=False, ignore_eos=True).text
    pieces = list(
        llm.stream("The capital", max_tokens=30, temperature=0, chat=False, ignore_eos=True)
    )
    assert "".join(pieces) == whole
    stream = llm.stream("The capital", max_tokens=200, chat=False, ignore_eos=True)
    next(stream)
    stream.close()
    assert llm.engine.drain(10)
    at_rest(llm)


def test_stop_strings_tokens_and_the_end_of_the_text(llm):
    wish = {"temperature": 0, "max_tokens": 30, "chat": False}
    whole = llm("The capital", ignore_eos=True, **wish)
    middle = whole.text[len(whole.text) // 2 :][:2]
    cut = llm("The capital", ignore_eos=True, stop=middle, **wish)
    assert cut.text == whole.text[: whole.text.index(middle)]
    assert (cut.finish_reason, cut.stopped_by) == ("stop", middle)
    token = whole.tokens[4]
    ended = llm("The capital", ignore_eos=True, stop_token_ids=[token], **wish)
    assert ended.tokens == whole.tokens[: whole.tokens.index(token) + 1]
    assert ended.stopped_by == token


def test_the_models_own_end_and_min_tokens(tokenizer):
    model = tiny_llama(len(tokenizer))
    text = list(range(5, 25))
    greedy = generated(model, text, 1)[0]
    model.generation_config.eos_token_id = greedy
    with loaded(model, tokenizer) as own:
        ended = own(text, temperature=0)
        assert (ended.tokens, ended.text, ended.finish_reason) == ((greedy,), "", "stop")
        later = own(text, temperature=0, min_tokens=3, max_tokens=9)
        assert greedy not in later.tokens[:3]


def test_logprobs_are_the_models_own(tokenizer):
    model = tiny_llama(len(tokenizer))
    text = list(range(5, 25))
    with loaded(model, tokenizer) as own:
        found = own(text, temperature=0, max_tokens=3, logprobs=4, ignore_eos=True)
    with torch.no_grad():
        logits = model(torch.tensor([text + list(found.tokens[:-1])])).logits[0, len(text) - 1 :]
    expected = logits.log_softmax(-1)
    for place, one in enumerate(found.logprobs):
        assert one.logprob == pytest.approx(float(expected[place, one.token]), abs=1e-4)
        assert [token for token, _ in one.top] == expected[place].topk(4).indices.tolist()


def test_json_regex_and_choice(llm):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema["additionalProperties"] = False
    wish = {"chat": False, "temperature": 0.7, "seed": 1}
    assert set(json.loads(llm("a", json_schema=schema, max_tokens=60, **wish).text)) == {"n"}
    assert llm("a", choice=["yes", "no"], **wish).text in ("yes", "no")
    both = llm(["a", "b"], regex="[a-c]{3}x", n=2, **wish)
    assert all(len(one.text) == 4 and one.text[-1] == "x" for one in both)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def test_a_tool_that_must_be_called_is_called(llm):
    wish = {"tools": [TOOL], "max_tokens": 120, "seed": 1}
    result = llm("Sunny?", tool_choice="required", **wish)
    [call] = result.tool_calls
    assert call.name == "weather" and json.loads(call.arguments)["city"] in ("Paris", "Rome")
    assert (result.text, result.finish_reason) == ("", "tool_calls")
    named = {"type": "function", "function": {"name": "weather"}}
    assert llm("Sunny?", tool_choice=named, **wish).tool_calls[0].name == "weather"
    assert llm("Sunny?", tool_choice="none", **wish).tool_calls == ()
    with pytest.raises(RequestError, match="asks for none"):
        llm("Sunny?", tool_choice={"type": "function", "function": {"name": "king"}}, **wish)
    with pytest.raises(RequestError, match="cannot be of a regex"):
        llm("Sunny?", tool_choice="required", regex="a", **wish)


def test_thoughts_are_told_apart(llm):
    thinking = llm("Why?", regex="<think>a+</think>b+", max_tokens=60, seed=1)
    assert set(thinking.reasoning) == {"a"} and set(thinking.text) == {"b"}
    raw = llm("Why?", regex="<think>a+</think>b+", max_tokens=60, seed=1, chat=False)
    assert raw.reasoning is None and raw.text.startswith("<think>")


def test_thoughts_that_the_template_has_opened(tokenizer):
    opening = copy.deepcopy(tokenizer)
    opening.chat_template = tokenizer.chat_template + "<think>\n"
    with loaded(tiny_llama(len(tokenizer), max_position_embeddings=256), opening) as own:
        found = own("Why?", regex="a+</think>b+", max_tokens=60, seed=1)
    assert set(found.reasoning) == {"a"} and set(found.text) == {"b"}


def test_int8_pages_say_nearly_the_same(tokenizer):
    model = decoder("llama")
    texts = prompts(8)
    with loaded(model, tokenizer, dtype="int8") as own:
        found = own(texts, logprobs=1, **GREEDY)
        at_rest(own)
    with loaded(model, tokenizer) as own:
        exact = own(texts, logprobs=1, **GREEDY)
    near = [
        abs(a.logprobs[0].logprob - b.logprobs[0].logprob)
        for a, b in zip(found, exact, strict=True)
    ]
    assert 0 < max(near) < 0.1


def test_cancelled_requests_give_their_room_back_and_others_go_on(llm):
    long = llm.submit(list(range(3, 90)), max_tokens=150, ignore_eos=True)
    other = llm.submit([5, 6], max_tokens=40, temperature=0, ignore_eos=True)
    for event in long.events():
        if isinstance(event, Piece):
            long.cancel()
    with pytest.raises(Cancelled):
        long.result()
    assert len(other.result()[0].tokens) == 40
    at_rest(llm)


@pytest.mark.parametrize(
    ("prompt", "options", "match"),
    [
        (list(range(3, 253)) * 2, {}, "has 500 tokens, .* has room for 256"),
        ([5] * 250, {"max_tokens": 10}, "ask for at most 6"),
        ("a", {"max_tokens": 0}, "max_tokens"),
        ("a", {"temperature": float("nan")}, "temperature"),
        ("a", {"temprature": 0.5}, "temperature"),
        ([], {}, "prompt"),
        ("", {"chat": False}, "empty"),
        ([9999], {}, "9999"),
        ([{"role": "king", "content": "a"}], {}, "king"),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, "text alone"),
        ([{"role": "user", "content": 7}], {}, "content is a text"),
        ([{"role": "system", "content": "a"}], {"system": "b"}, "leave `system` out"),
        ([5, 6], {"system": "b"}, "taken as it is"),
        ("\ud800", {}, "no text"),
        ("a", {"stop_token_ids": [99999]}, "99999"),
        ("a", {"choice": 7}, "choice"),
        ("a", {"regex": "(a{1000}){1000}"}, "regex"),
        ("a", {"regex": "a", "choice": ["b"]}, "choice"),
        ("a", {"json_schema": {"type": "strange"}}, "strange"),
        ("a", {"logit_bias": {99999: 1.0}, "max_tokens": 2}, "99999"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_the_engine_lives_on(llm, prompt, options, match):
    with pytest.raises(RequestError, match=match) as error:
        llm([prompt], **options)
    assert "\n" not in str(error.value)
    assert llm("a", max_tokens=1, chat=False).usage.completion == 1
    at_rest(llm)


def test_fewer_tokens_than_wished_where_nobody_wished(llm):
    result = llm([5] * 250, ignore_eos=True)
    assert (len(result.tokens), result.finish_reason) == (6, "length")


def test_one_engine_for_text_and_who_closes(tokenizer):
    with Engine() as engine:
        from mindsd.pipelines.language_model import in_memory

        model = in_memory(tiny_llama(len(tokenizer)), tokenizer)
        first, second = TextGeneration(model, engine), TextGeneration(model)
        assert second.engine is engine
        first.close()
        assert second("a", max_tokens=1, chat=False).usage.completion == 1
        second.close()
        with pytest.raises(EngineClosed, match="load it again"):
            second("a")


def test_many_threads_at_once(llm):
    found: dict[int, Any] = {}

    def one(number: int) -> None:
        found[number] = llm([number + 3] * 5, temperature=0, max_tokens=6, ignore_eos=True)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = llm([3] * 5, temperature=0, max_tokens=6, ignore_eos=True)
    assert found[0].tokens == alone.tokens and len(found) == 12


@pytest.mark.parametrize("kind", ["mamba", "falcon_mamba", "lfm2", "bloom"])
def test_what_cannot_run_packed_runs_plainly(kind, tokenizer):
    options: dict[str, Any] = {"n_layer": 2, "n_head": 4} if kind == "bloom" else {}
    if kind == "lfm2":
        options = {"layer_types": ["conv", "full_attention"]}
    model = decoder(kind, **options)
    texts = prompts(3)
    with loaded(model, tokenizer) as own:
        assert own.model.packed is None and own.model.why_plain
        results = own(texts, **GREEDY)
        assert [list(one.tokens) for one in results] == [
            generated(model, text, NEW) for text in texts
        ]
