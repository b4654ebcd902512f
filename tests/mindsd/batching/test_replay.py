"""Forwards that are recorded: they give what the model gives, whoever's tokens are in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mindsd.batching import replay as replay_module
from mindsd.batching.replay import Replay, shape_of
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import in_memory
from mindsd.pipelines.text_generation import TextGeneration
from tests.zoo.decoders import decoder, generated, prompts
from tests.zoo.tiled import Again, Tiled, tiled_attention
from tests.zoo.tiny_llama import tiny_tokenizer

NEW = 12
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": NEW, "ignore_eos": True}


@pytest.fixture(autouse=True)
def by_tiles() -> Iterator[None]:
    with tiled_attention():
        yield


def opened(model: Any, recorder: Again, **more: Any) -> TextGeneration:
    cache = CacheOptions(block=4)
    tokenizer = tiny_tokenizer()
    return TextGeneration(in_memory(model, tokenizer, cache=cache, recorder=recorder, **more))


def forward_of(llm: TextGeneration) -> Replay:
    found = llm.model.runner.forward
    assert isinstance(found, Replay)
    return found


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt2", "gpt_oss", "qwen3"])
def test_texts_are_those_of_generate(kind):
    model, texts, recorder = decoder(kind), prompts(9), Again()
    expected = [generated(model, text, NEW) for text in texts]
    with opened(model, recorder) as llm:
        assert llm.model.packed is not None and llm.model.packed.why_unrecorded is None
        assert [list(one.tokens) for one in llm(texts, **GREEDY)] == expected
        assert [list(one.tokens) for one in llm(texts[:3], **GREEDY)] == expected[:3]
        assert recorder.ran > NEW and {4, 16} <= {own.tokens for own in forward_of(llm).counts}
        for lane in llm.model.runner.lanes:
            assert lane.pool.counts[1] == 0


def test_logits_are_the_callers_own():
    model, texts = decoder("llama"), prompts(1)
    with opened(model, Again()) as llm:
        forward = forward_of(llm)
        given: list[tuple[torch.Tensor, torch.Tensor]] = []

        def kept(*args: Any, **more: Any) -> torch.Tensor:
            logits = forward(*args, **more)
            given.append((logits, logits.clone()))
            return logits

        llm.model.runner.forward = kept
        llm(texts[0], **GREEDY)
    assert len(given) >= NEW
    assert all(torch.equal(one, then) for one, then in given)


def test_a_table_that_outgrows_its_room_is_recorded_anew(monkeypatch):
    monkeypatch.setattr(replay_module, "ROOM", 1)
    model, texts = decoder("llama"), prompts(2)
    expected = [generated(model, text, 60) for text in texts]
    recorder = Again()
    with opened(model, recorder) as llm:
        before = recorder.recorded
        results = llm(texts, **{**GREEDY, "max_tokens": 60})
        assert [list(one.tokens) for one in results] == expected
        buckets = len(forward_of(llm).counts)
        assert buckets < recorder.recorded - before < 12  # room doubles


def test_weights_that_lie_elsewhere_are_recorded_anew():
    model, texts, recorder = decoder("llama"), prompts(1), Again()
    with opened(model, recorder) as llm:
        llm(texts[0], **GREEDY)
        before = recorder.recorded
        with torch.no_grad():
            head = model.lm_head.weight
            head.data = torch.randn(head.shape, generator=torch.Generator().manual_seed(5))
        found = list(llm([*texts[0], 7], **GREEDY).tokens)
        assert recorder.recorded > before
    assert found == generated(model, [*texts[0], 7], NEW)


class Failing(Again):
    def record(self, function):
        raise RuntimeError("operation not permitted when stream is capturing")


def test_what_cannot_be_recorded_runs_as_before_and_says_why():
    model, texts = decoder("llama"), prompts(3)
    expected = [generated(model, text, NEW) for text in texts]
    with opened(model, Failing()) as llm:
        assert llm.model.packed is not None
        assert "not permitted when stream is capturing" in (llm.model.packed.why_unrecorded or "")
        assert not isinstance(llm.model.runner.forward, Replay) and llm.model.runner.clears
        assert [list(one.tokens) for one in llm(texts, **GREEDY)] == expected


class FailingWhenLong(Again):
    def record(self, function):
        if len(function()) == 1 and self.recorded >= 2:
            raise RuntimeError("it waits for the GPU")
        return super().record(function)


def test_a_shape_that_cannot_be_recorded_runs_as_always():
    model, texts = decoder("llama"), prompts(3)
    expected = [generated(model, text, NEW) for text in texts]
    with opened(model, FailingWhenLong()) as llm:
        found = [list(llm(text, **GREEDY).tokens) for text in texts]
        left = forward_of(llm).left
        assert found == expected
        assert left and set(left.values()) == {"RuntimeError: it waits for the GPU"}


class Stale(Again):
    """Runs nothing again: as a graph of something that does not read its tensors."""

    def record(self, function):
        first = function().clone()
        return lambda: first


def test_a_recording_that_is_wrong_is_found_out_at_once():
    with opened(decoder("llama"), Stale()) as llm:
        assert llm.model.packed is not None
        assert "other logits" in (llm.model.packed.why_unrecorded or "")


class StaleWhenSingle(Again):
    """Wrong for steps of a token each alone."""

    def record(self, function):
        again = super().record(function)
        first = again().clone()
        return again if len(first) > 4 else lambda: first


def test_steps_of_a_token_each_are_proven_too():
    with opened(decoder("llama"), StaleWhenSingle()) as llm:
        assert llm.model.packed is not None
        assert "other logits" in (llm.model.packed.why_unrecorded or "")


def test_where_no_kernel_answers_any_more_it_runs_as_always(monkeypatch):
    model, texts = decoder("llama"), prompts(3)
    expected = [generated(model, text, NEW) for text in texts]
    with opened(model, Again()) as llm:
        forward, pages = forward_of(llm), llm.model.runner.pages
        llm(texts[0], **GREEDY)
        with torch.inference_mode():
            for both in pages._pages.values():
                both[1].data[:, -3:] = torch.nan  # blocks that are free
        monkeypatch.setattr(Tiled, "refuses", lambda self, call: "failed its self-test")
        forward._recorded.clear()  # a graph would go on; what stands for one here asks for kernels
        found = [list(one.tokens) for one in llm(texts, **GREEDY)]
        assert forward.clears and "IndexError" in next(iter(forward.left.values()))
        assert found == expected
        assert all(own.data.isfinite().all() for both in pages._pages.values() for own in both)


def test_layers_off_records_nothing():
    recorder = Again()
    with opened(decoder("llama"), recorder, layers="off"):
        assert recorder.recorded == 0


def shape(*segments: Segment, rows: int = 1) -> tuple[int, int, int] | None:
    """Tokens, rows and tile of the shape of a step."""
    step = Step(segments, PageStore([8], 4, [0], "auto"), [], torch.device("cpu"))
    found = shape_of(step, rows, torch.Size([1]))
    return None if found is None else (found.tokens, found.rows, found.tile)


def test_shapes_that_steps_go_into():
    singles = [Segment(i, 1, 3, ()) for i in range(33)]
    assert shape(singles[0]) == (1, 1, 1)
    assert shape(*singles[:17], rows=17) == (24, 24, 1)
    assert shape(*singles, rows=33) == (48, 48, 1)
    assert shape(Segment(0, 3, 0, ())) == (16, 1, 16)
    assert shape(Segment(0, 16, 0, ()), Segment(16, 1, 5, ()), rows=2) == (24, 16, 16)
    assert shape(Segment(0, 1100, 0, ())) == (1536, 1, 16)
    assert shape(Segment(0, 4096, 0, ())) == (4096, 1, 16)


def test_what_is_not_recorded():
    assert shape(Segment(0, 4097, 0, ())) is None
    assert shape(Segment(0, 400, 0, ()), rows=257) is None
    assert shape(Segment(0, 1, 4, (), "ink")) is None
    assert shape(Segment(0, 4, 4, (), None, [(4, 8)])) is None
    assert shape(*(Segment(i, 1, 3, ()) for i in range(257))) is None


def test_what_is_left_over_is_nobodys():
    """It writes to a block of its own, and what it reads there is finite."""
    model, texts = decoder("llama"), prompts(3)
    with opened(model, Again()) as llm:
        llm(texts, **GREEDY)
        pages = llm.model.runner.pages
        [lane] = llm.model.runner.lanes
        spare = pages.spare(0)
        assert spare == lane.pool.total
        for both in pages._pages.values():
            for own in both:
                assert own.data.shape[1] == spare + 1
                assert own.data[:, spare].isfinite().all() and own.data[:, spare].any()


def test_blocks_are_not_cleared_where_what_is_masked_is_not_read():
    with opened(decoder("llama"), Again()) as llm:
        assert not llm.model.runner.clears
