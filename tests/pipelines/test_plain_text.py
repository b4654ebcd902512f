"""transformers' own `generate`, with our sampler: the same tokens as packed, and nothing left."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindsd.errors import BrokenLogits, Cancelled
from mindsd.pipelines.answering import Task
from mindsd.pipelines.plain_text import answer_plainly
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.request import Need, Notice, Piece, Request
from mindsd.sampling.grammar import Constraint, GrammarCompiler
from mindsd.sampling.parameters import Sampling
from tests.zoo.decoders import generated
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer

PROMPT = [5, 6, 7, 8, 9]
END = 1


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture
def model(tokenizer) -> Any:
    return tiny_llama(len(tokenizer))


@pytest.fixture
def task(tokenizer) -> Task:
    greedy = Sampling(max_tokens=8, temperature=0, ignore_eos=True)
    return Task(PROMPT, greedy, (END,), tokenizer.backend_tokenizer)


def said(model: Any, task: Task, vision: Any = None, request: Request | None = None) -> list[Any]:
    loaded = SimpleNamespace(name="tiny", model=model, vision=vision, why_plain="it must not")
    request = request or Request(lambda request: None, Need())
    with torch.no_grad():
        return answer_plainly(request, loaded, task)


def drawn(task: Task, **options: Any) -> Task:
    return replace(task, sampling=replace(task.sampling, **options))


def test_greedy_tokens_are_those_of_generate(model, task):
    [result] = said(model, task)
    assert list(result.tokens) == generated(model, PROMPT, 8)
    assert (result.finish_reason, result.usage.prompt, result.usage.cached) == ("length", 5, 0)
    assert task.prompt == PROMPT


def test_samples_are_those_of_packed_with_the_same_seed(model, tokenizer, task):
    how: dict[str, Any] = {"temperature": 2, "top_p": 0.9, "seed": 3, "n": 2, "logprobs": 2}
    how |= {"repetition_penalty": 1.3, "min_tokens": 2}
    plain = said(model, drawn(task, **how))
    with TextGeneration.load(model, tokenizer) as packed:
        expected = packed(PROMPT, max_tokens=8, ignore_eos=True, **how)
    assert [one.tokens for one in plain] == [one.tokens for one in expected]
    assert [one.sample for one in plain] == [0, 1] and plain[0].tokens != plain[1].tokens
    for one, other in zip(plain, expected, strict=True):
        for own, same in zip(one.logprobs, other.logprobs, strict=True):
            assert own.token == same.token and own.logprob == pytest.approx(same.logprob, abs=1e-4)


def test_what_is_told_while_it_is_drawn(model, task):
    request, events = Request(lambda request: None, Need()), []

    def emit(event: Any) -> None:
        events.append(event)

    request.emit = emit
    results = said(model, drawn(task, n=2, seed=1, temperature=1), request=request)
    [notice] = [event for event in events if isinstance(event, Notice)]
    assert notice.text == "tiny runs one request at a time: it must not" and events[0] is notice
    for one in results:
        pieces = [own for own in events if isinstance(own, Piece) and own.sample == one.sample]
        assert [own.tokens for own in pieces] == [(token,) for token in one.tokens]
        assert "".join(own.text for own in pieces) == one.text


def test_how_the_model_itself_would_draw_changes_nothing(model, task):
    expected = generated(model, PROMPT, 8)
    own = model.generation_config
    own.repetition_penalty, own.num_beams, own.do_sample, own.max_new_tokens = 0.05, 3, True, 2
    assert list(said(model, task)[0].tokens) == expected
    assert model.generation_config is own and own.num_beams == 3


def test_it_ends_where_the_text_ends(model, task):
    first, second, third = generated(model, PROMPT, 3)
    assert len({first, second, third}) == 3
    [result] = said(model, drawn(task, stop_token_ids=[second]))
    assert result.tokens == (first, second) and result.stopped_by == second
    [result] = said(model, replace(drawn(task, ignore_eos=False), ends=(second,)))
    assert result.tokens == (first, second) and result.finish_reason == "stop"
    [result] = said(model, replace(drawn(task, ignore_eos=False, min_tokens=3), ends=(second,)))
    assert len(result.tokens) >= 3 and second not in result.tokens[:3]


def test_every_sample_keeps_to_the_grammar(model, tokenizer, task):
    pytest.importorskip("llguidance")
    compiler = GrammarCompiler(tokenizer.backend_tokenizer, len(tokenizer), [END])
    grammar = compiler.compile(Constraint(choice=("yes", "no")))
    warm = drawn(task, temperature=5, n=4, seed=1, ignore_eos=False)
    results = said(model, replace(warm, grammar=grammar))
    assert {one.text for one in results} == {"yes", "no"}
    assert {one.finish_reason for one in results} == {"stop"} and not grammar.finished


def test_an_image_token_cannot_be_said(model, task):
    first = generated(model, PROMPT, 1)[0]
    [result] = said(model, task, SimpleNamespace(token_id=first))
    assert first not in result.tokens


def test_what_the_models_processor_makes_of_a_prompt_is_the_prompt(model, task):
    longer = torch.tensor([[*PROMPT, 10, 11]])

    def own_inputs() -> dict[str, Any]:
        return {"input_ids": longer, "attention_mask": torch.ones_like(longer)}

    [result] = said(model, replace(task, own_inputs=own_inputs))
    assert result.usage.prompt == 7
    assert list(result.tokens) == generated(model, longer[0].tolist(), 8)


def test_a_cancelled_request_stops_at_the_next_token(model, task):
    request, seen = Request(lambda request: None, Need()), []

    def cancelled(event: Any) -> None:
        seen.append(event)
        if len([own for own in seen if isinstance(own, Piece)]) == 2:
            request.cancelled.set()

    request.emit = cancelled
    before = model.generation_config
    with pytest.raises(Cancelled):
        said(model, task, request=request)
    assert len(seen) == 3 and model.generation_config is before  # a notice and two pieces


def test_numbers_that_are_none_end_it_with_an_error(model, task):
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    before = model.generation_config
    with pytest.raises(BrokenLogits):
        said(model, task)
    assert model.generation_config is before


def test_a_model_that_fails_is_as_it_was(model, task, monkeypatch):
    before = model.generation_config

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("a wall")

    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(ValueError, match="a wall"):
        said(model, task)
    assert model.generation_config is before
