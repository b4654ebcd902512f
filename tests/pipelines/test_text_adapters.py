"""Requests with and without adapters in one batch say what models of their own would say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mindsd.batching.tokens import Budget
from mindsd.errors import Cancelled, EngineClosed, ModelError, RequestError
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import in_memory
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Piece
from tests.zoo.decoders import decoder, generated, prompts
from tests.zoo.lora import adapted, merged, save_adapter
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer

NEW = 12
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": NEW, "ignore_eos": True}
NAMES = (None, "a", "b")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_llama(len(tokenizer), max_position_embeddings=256, eos_token_id=None)


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    """Of two adapters."""
    root = tmp_path_factory.mktemp("adapters")
    save_adapter(model, root / "a", 1)
    mixed = ["q_proj", "v_proj", "up_proj", "down_proj"]
    save_adapter(model, root / "b", 2, r=3, use_rslora=True, target_modules=mixed)
    return root


@pytest.fixture(scope="module")
def alone(model, folders) -> dict[str | None, Any]:
    """Three models of their own: the plain one, and one merged with each adapter."""
    return {None: model, **{name: merged(model, folders / name) for name in "ab"}}


def loaded(model, tokenizer, folders, chunk: int = 512) -> TextGeneration:
    own = TextGeneration.load(model, tokenizer, cache=CacheOptions(block=4), budget=Budget(chunk))
    assert own.model.why_plain is None
    for name in "ab":
        own.add_adapter(name, folders / name)
    return own


@pytest.fixture
def llm(model, tokenizer, folders) -> Iterator[TextGeneration]:
    with loaded(model, tokenizer, folders) as own:
        yield own


def tokens(request) -> list[int]:
    return list(request.result()[0].tokens)


@pytest.mark.parametrize("chunk", [1, 7, 40, 512])
def test_in_one_batch_each_is_a_model_of_its_own(model, tokenizer, folders, alone, chunk):
    texts = prompts(9)
    names = [NAMES[place % 3] for place in range(len(texts))]
    expected = [generated(alone[name], text, NEW) for name, text in zip(names, texts, strict=True)]
    with loaded(model, tokenizer, folders, chunk) as own:
        asked = [
            own.submit(text, adapter=name, **GREEDY)
            for name, text in zip(names, texts, strict=True)
        ]
        assert [tokens(request) for request in asked] == expected
        counts = own.model.runner.counts
        assert chunk == 1 or counts.forwards < len(texts) * NEW  # they ran together


def test_one_prompt_for_all(llm, alone):
    """They differ, so that nothing of one can pass for another's."""
    text = list(range(10, 40))
    found = {name: llm(text, adapter=name, **GREEDY) for name in NAMES}
    assert {name: list(one.tokens) for name, one in found.items()} == {
        name: generated(alone[name], text, NEW) for name in NAMES
    }
    assert len({one.tokens for one in found.values()}) == 3


def test_some_decode_while_others_prefill(model, tokenizer, folders, alone):
    long, short = [list(range(3 + i, 123 + i)) for i in range(3)], [[5 + i] for i in range(3)]
    with loaded(model, tokenizer, folders, chunk=16) as own:
        early = [
            own.submit(text, adapter=name, **{**GREEDY, "max_tokens": 40})
            for name, text in zip(NAMES, short, strict=True)
        ]
        next(event for event in early[0].events() if isinstance(event, Piece))
        late = [
            own.submit(text, adapter=name, **GREEDY)
            for name, text in zip(("b", None, "a"), long, strict=True)
        ]
        for request, name, text in zip(early, NAMES, short, strict=True):
            assert tokens(request) == generated(alone[name], text, 40)
        for request, name, text in zip(late, ("b", None, "a"), long, strict=True):
            assert tokens(request) == generated(alone[name], text, NEW)


def test_several_samples_of_one_prompt(llm, alone):
    text = list(range(10, 33))
    found = llm(text, adapter="a", n=3, **GREEDY)
    assert {one.tokens for one in found} == {tuple(generated(alone["a"], text, NEW))}


def test_logprobs_are_pefts_own(llm, model, folders):
    text = list(range(5, 25))
    for name in "ab":
        found = llm(text, adapter=name, logprobs=4, **GREEDY)
        ids = torch.tensor([text + list(found.tokens[:-1])])
        with torch.no_grad():
            logits = adapted(model, folders / name)(input_ids=ids).logits[0, len(text) - 1 :]
        expected = logits.log_softmax(-1)
        for place, one in enumerate(found.logprobs):
            assert one.logprob == pytest.approx(float(expected[place, one.token]), abs=1e-5)


def test_the_prefix_cache_is_each_adapters_own(llm, folders, alone):
    text = list(range(10, 50))

    def cached(name: str | None, **options: Any) -> int:
        found = llm(text, adapter=name, **GREEDY, **options)
        assert list(found.tokens) == generated(alone[name], text, NEW)
        return found.usage.cached

    assert [cached(name) for name in NAMES] == [0, 0, 0]
    assert all(cached(name) > 0 for name in NAMES)
    assert cached("a", salt="x") == 0
    llm.remove_adapter("a")
    assert (cached(None) > 0, cached("b") > 0) == (True, True)
    llm.add_adapter("a", folders / "a")
    assert cached("a") == 0 and cached("a") > 0  # what lies there is of the one that is gone


def test_another_adapter_of_the_same_name_finds_nothing(llm, folders, alone):
    text = list(range(10, 50))
    llm(text, adapter="a", **GREEDY)
    llm.remove_adapter("a")
    llm.add_adapter("a", folders / "b")
    found = llm(text, adapter="a", **GREEDY)
    assert (found.usage.cached, list(found.tokens)) == (0, generated(alone["b"], text, NEW))


def test_an_adapter_comes_and_goes_while_others_run(llm, folders, alone):
    text = [7, 8, 9]
    running = llm.submit(text, adapter="b", **{**GREEDY, "max_tokens": 100})
    for _ in range(5):
        llm.remove_adapter("a")
        llm.add_adapter("a", folders / "a")
        assert list(llm(text, adapter="a", **GREEDY).tokens) == generated(alone["a"], text, NEW)
    assert tokens(running) == generated(alone["b"], text, 100)


def test_one_in_use_is_not_removed(llm):
    request = llm.submit([5, 6], adapter="a", max_tokens=200, ignore_eos=True)
    with pytest.raises(RequestError, match="'a' is in use by 1 request;"):
        llm.remove_adapter("a")
    request.cancel()
    with pytest.raises(Cancelled):
        request.result()
    llm.remove_adapter("a")
    assert llm.adapters == ("b",)


def test_unknown_names_tell_the_nearest(llm, folders):
    llm.add_adapter("pirate", folders / "a")
    with pytest.raises(RequestError, match="no adapter 'pirat'; did you mean 'pirate'?"):
        llm("a", adapter="pirat")
    with pytest.raises(RequestError, match="no adapter 'zzz'; loaded are: a, b, pirate"):
        llm("a", adapter="zzz")
    with pytest.raises(RequestError, match="already"):
        llm.add_adapter("a", folders / "b")
    assert llm("a", max_tokens=1, adapter="pirate").usage.completion == 1


def wrapped(model) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_the_model_is_as_it_was(model, tokenizer, folders, llm):
    ids = torch.arange(3, 20)[None]
    with torch.inference_mode():
        before = model(ids).logits
    llm([5, 6, 7], adapter="a", **GREEDY)
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, before)  # outside of a step nothing happens
    plain = llm([5, 6, 7], logprobs=0, **GREEDY)
    for name in "ab":
        llm.remove_adapter(name)
    assert llm([5, 6, 7], logprobs=0, **GREEDY).logprobs == plain.logprobs
    assert wrapped(model) == []  # nothing is left of the adapters


def test_closing_takes_everything_off(model, tokenizer, folders):
    shared = in_memory(model, tokenizer)
    first, second = TextGeneration(shared), TextGeneration(shared)
    first.add_adapter("a", folders / "a")
    running = first.submit([5, 6], adapter="a", max_tokens=200, ignore_eos=True)
    beside = second.submit([5, 6], **GREEDY)
    with pytest.raises(RequestError, match="no adapter 'a'"):
        second.submit("a", adapter="a")
    first.close()
    with pytest.raises(Cancelled):
        running.result()
    assert tokens(beside) == generated(model, [5, 6], NEW)
    with pytest.raises(EngineClosed, match="load it again"):
        first.add_adapter("b", folders / "b")
    assert wrapped(model) == []
    second.close()
    assert wrapped(model) == []


def test_a_model_that_runs_plainly_refuses_them(tokenizer, folders):
    with TextGeneration.load(decoder("mamba"), tokenizer) as own:
        with pytest.raises(RequestError, match="runs no adapters, only packed models do: Mamba"):
            own.add_adapter("a", folders / "a")
        with pytest.raises(RequestError, match="runs no adapters"):
            own.submit("a", adapter="a")


def test_an_adapter_of_another_model_is_refused(tokenizer, folders):
    with TextGeneration.load(decoder("gpt2"), tokenizer) as own:
        with pytest.raises(ModelError, match="does not have"):
            own.add_adapter("a", folders / "a")
        assert own.adapters == ()
