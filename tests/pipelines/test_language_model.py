"""Language models opened and closed: under live texts, twice, where it fails; how far they go."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import torch

from mindsd.engine import Engine
from mindsd.errors import Cancelled, EngineClosed, ModelError, RequestError
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import in_memory, load_language
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Piece
from tests.zoo.decoders import decoder, generated, prompts
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer

GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def implementation(model: Any) -> str:
    return model.config._attn_implementation


def test_closing_under_live_text_ends_it_and_other_models_go_on(tokenizer):
    model = tiny_llama(len(tokenizer), max_position_embeddings=2048)
    with Engine() as engine:
        closing = TextGeneration(in_memory(model, tokenizer), engine)
        staying = TextGeneration(in_memory(tiny_llama(len(tokenizer)), tokenizer), engine)
        running = closing.submit([5, 6], max_tokens=1500, **GREEDY)
        next(event for event in running.events() if isinstance(event, Piece))
        queued = closing.submit([7, 8], max_tokens=1500, **GREEDY)
        closing.close()
        for request in (running, queued):
            with pytest.raises(Cancelled):
                request.result(timeout=5)
        assert implementation(model) == "sdpa"
        assert staying([5, 6], max_tokens=3, **GREEDY).usage.completion == 3
        staying.close()


def test_a_model_is_never_taken_twice(tokenizer):
    model = decoder("llama")
    text = prompts(1)[0]
    expected = tuple(generated(model, text, 8))
    with TextGeneration.load(model, tokenizer) as first:
        with pytest.raises(RequestError, match="already runs on an engine"):
            TextGeneration.load(model, tokenizer)
        assert first(text, max_tokens=8, **GREEDY).tokens == expected
    assert implementation(model) == "sdpa"


@pytest.mark.parametrize("kind", ["llama", "gpt_oss", "gemma2"])
def test_a_model_that_is_open_still_works_by_itself(kind, tokenizer):
    model = decoder(kind)
    before = implementation(model)
    text = prompts(1)[0]
    expected = generated(model, text, 8)
    with TextGeneration.load(model, tokenizer):
        assert generated(model, text, 8) == expected
    assert implementation(model) == before


def test_what_fails_to_open_is_as_it_was(tokenizer):
    model = decoder("llama")
    with pytest.raises(RequestError, match="holds not one block"):
        TextGeneration.load(model, tokenizer, cache=CacheOptions(memory=1))
    assert implementation(model) == "sdpa"
    with TextGeneration.load(model, tokenizer) as own:
        assert own([5], max_tokens=1, **GREEDY).usage.completion == 1


def test_who_joins_while_it_closes_is_told(tokenizer, monkeypatch):
    shared = in_memory(tiny_llama(len(tokenizer)), tokenizer)
    first = TextGeneration(shared)
    asked, go = threading.Event(), threading.Event()
    close = Engine.close

    def slow(self: Engine) -> None:
        asked.set()
        go.wait(5)
        close(self)

    monkeypatch.setattr(Engine, "close", slow)
    thread = threading.Thread(target=first.close)
    thread.start()
    asked.wait(5)
    with pytest.raises(EngineClosed, match="is being closed"):
        TextGeneration(shared)
    go.set()
    thread.join()
    with TextGeneration(shared) as again:
        assert again([5], max_tokens=1, **GREEDY).usage.completion == 1


def test_a_model_goes_as_far_as_its_numbers_are_its_own(tokenizer):
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 32}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0}
    model = decoder("phi3", rope_parameters=rope, original_max_position_embeddings=32)
    with TextGeneration.load(model, tokenizer) as own:
        assert own.model.room == 32
        with pytest.raises(RequestError, match="room for 32"):
            own([5] * 40, **GREEDY)


def test_what_looks_at_the_longest_text_runs_plainly(tokenizer):
    model = decoder("llama")
    model.config.attn_temperature_tuning = True
    with TextGeneration.load(model, tokenizer) as own:
        assert (
            own.model.why_plain
            == "its attention temperature counts positions from the longest text"
        )
        assert own([5, 6], max_tokens=4, **GREEDY).usage.completion == 4


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_tokens_are_drawn_as_the_model_says_where_nobody_else_does(kind, tokenizer):
    """Where transformers and we mean the same: the penalty of a greedy text."""
    model = decoder(kind)
    text = prompts(1)[0]
    plain = tuple(generated(model, text, 8))
    model.generation_config.do_sample = False
    model.generation_config.repetition_penalty = 0.05
    penalised = tuple(generated(model, text, 8))
    model.generation_config.num_beams = 3  # how it searches is not asked
    with TextGeneration.load(model, tokenizer) as own:
        assert own.model.sampling == {"repetition_penalty": 0.05, "temperature": 0.0}
        how: dict[str, Any] = {"max_tokens": 8, "ignore_eos": True}
        assert own(text, **how).tokens == penalised != plain
        assert own(text, repetition_penalty=1, **how).tokens == plain
        warm = own(text, temperature=9, repetition_penalty=None, seed=1, **how)
        assert warm.tokens not in (plain, penalised)
    assert model.generation_config.num_beams == 3
    with TextGeneration.load(model, tokenizer, generation_config="mindsd") as own:
        assert own.model.sampling == {}
        assert own(text, max_tokens=8, **GREEDY).tokens == plain


def test_what_a_folder_says_of_its_tokens_is_read(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    tiny_llama(len(tokenizer)).save_pretrained(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"top_k": 1, "temperature": 0.5, "eos_token_id": 1}))
    with TextGeneration.load(tmp_path) as own:
        assert own.model.sampling == {"temperature": 0.5, "top_k": 1}
        assert own("a", max_tokens=8, seed=1).tokens == own("a", max_tokens=8, seed=2).tokens
        free = [own("a", max_tokens=8, top_k=0, seed=seed).tokens for seed in (1, 2)]
        assert free[0] != free[1]
    file.write_text(json.dumps({"top_k": 1, "top_p": 1.5}))
    with pytest.raises(ModelError, match=f"{tmp_path.name} says in generation_config.json.*top_p"):
        TextGeneration.load(tmp_path)
    with TextGeneration.load(tmp_path, generation_config="mindsd") as own:
        assert own.model.sampling == {}
    with pytest.raises(RequestError, match="generation_config must be auto or mindsd, got 'vllm'"):
        TextGeneration.load(tmp_path, generation_config="vllm")


@pytest.mark.parametrize("layers", ["wibble", "compiled", "w8a8"])
def test_layers_that_cannot_be_had_are_refused_before_it_is_read(layers, monkeypatch):
    monkeypatch.setattr("mindsd.pipelines.language_model.load_language_model", None)
    with pytest.raises(RequestError, match=layers):
        load_language("tiny-vlm", "cpu", layers=layers)


def test_tokens_that_only_the_tokenizer_knows_are_refused(tokenizer):
    with TextGeneration.load(tiny_llama(100), tokenizer) as own:
        with pytest.raises(RequestError, match="they are 0 to 99"):
            own([5, 150], **GREEDY)
        assert own([5, 99], max_tokens=1, **GREEDY).usage.completion == 1


def test_a_broken_text_leaves_nothing_behind_for_others(tokenizer):
    model = tiny_llama(len(tokenizer))
    with TextGeneration.load(model, tokenizer, cache=CacheOptions(block=4)) as own:
        expected = own([5, 6, 7], max_tokens=6, **GREEDY).tokens
        with torch.no_grad():
            kept = model.model.embed_tokens.weight[9].clone()
            model.model.embed_tokens.weight[9] = torch.nan
        with pytest.raises(ArithmeticError):
            own([9] * 11, max_tokens=6, **GREEDY)
        with torch.no_grad():
            model.model.embed_tokens.weight[9] = kept
        texts = [[5, 6, 7], [8, 6], [5, 6, 7, 8, 10]]
        found = own(texts, max_tokens=6, **GREEDY)
        assert found[0].tokens == expected


def test_a_refused_prompt_leaves_no_request_behind(tokenizer):
    with TextGeneration.load(tiny_llama(len(tokenizer)), tokenizer) as own:
        with pytest.raises(RequestError):
            own([[5, 6], [7, 8], [99999]], max_tokens=50, **GREEDY)
        assert own.engine.drain(5)
