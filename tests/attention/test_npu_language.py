"""A language model of transformers on a simulated NPU: its proof, and steps of several texts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from mindsd.attention import for_transformers
from mindsd.attention.for_transformers import Sight, attach_language
from mindsd.attention.npu import Npu
from mindsd.attention.npu_paged import NpuPaged
from mindsd.attention.registry import Registry
from mindsd.attention.sdpa import Sdpa
from mindsd.kvcache import pages
from mindsd.kvcache.pages import NpuPages, PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.pipelines import proof
from mindsd.pipelines.packed import PackedModel
from tests.attention.simulated import simulated

WORDS, WINDOW = 60, 9
FUSED, WRITE = "npu_fused_infer_attention_score", "npu_scatter_pa_kv_cache"


def mistral(window: int | None, heads: int = 2, dim: int = 64) -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=heads,
        head_dim=dim,
        sliding_window=window,
        max_position_embeddings=512,
    )
    return MistralForCausalLM(config).eval().half()


@pytest.fixture
def on_npu(monkeypatch):
    """Everything that asks where tensors are takes the CPU for an NPU."""
    with simulated() as npu:
        registry = Registry([Npu(("cpu",)), Sdpa()], [NpuPaged(("cpu",))])
        monkeypatch.setattr(for_transformers, "default_registry", lambda: registry)
        monkeypatch.setattr(pages, "page_kind", lambda device: NpuPages)
        monkeypatch.setattr(proof, "BLOCK", 128)
        yield npu


def step_of(packed: PackedModel, shapes: list[tuple[int, int]]) -> Step:
    lanes, lane_of = packed.lanes(len(shapes), 128)
    segments, start = [], 0
    for block, (length, past) in enumerate(shapes):
        segments.append(Segment(start, length, past, [[block]]))
        start += length
    store = PageStore([lane.pool.total for lane in lanes], 128, lane_of, "auto")
    return Step(segments, store, lanes, packed.device)


def forward(packed: PackedModel, step: Step, ids: torch.Tensor) -> torch.Tensor:
    positions = [at for own in step.segments for at in range(own.past, own.total)]
    with stepping(step), torch.inference_mode():
        every = torch.arange(step.tokens)
        return packed.forward(ids[None], torch.tensor([positions]), every)


@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("heads, dim", [(2, 64), (1, 32)])
def test_texts_side_by_side_are_what_they_are_alone(on_npu, window, heads, dim):
    model = mistral(window, heads, dim)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(0, WORDS, (n,), generator=generator) for n in (21, 13, 5)]
    with torch.inference_mode():
        alone = [model(text[None], use_cache=False).logits[0].float() for text in texts]
    packed = PackedModel(model)  # raises unless packed and alone agree
    try:
        asked = Counter(on_npu.log.ops())
        assert asked[FUSED] and asked[WRITE] and "npu_fusion_attention" not in asked
        past = [(len(text) - 3, 0) for text in texts]
        step = step_of(packed, past)
        forward(packed, step, torch.cat([text[:-3] for text in texts]))
        on_npu.log.clear()
        shapes = [(1, 18), (2, 10), (1, 2)]
        own = Step(step_of(packed, shapes).segments, step.pages, step.lanes, step.device)
        ids = torch.cat([t[a : a + n] for t, (n, a) in zip(texts, shapes, strict=True)])
        found = forward(packed, own, ids).float()
    finally:
        packed.close()
    assert Counter(on_npu.log.ops())[WRITE] == 2 and not on_npu.log.host_syncs
    modes = {call["sparse_mode"] for call in on_npu.log.calls if call.op == FUSED}
    assert 4 in modes if window else modes <= {0, 3}
    expected = torch.cat([a[p : p + n] for a, (n, p) in zip(alone, shapes, strict=True)])
    assert (found - expected).abs().max() <= 2e-2 * expected.abs().max()


@pytest.mark.parametrize("window", [None, WINDOW])
def test_a_mask_of_transformers_says_what_it_is(on_npu, window, monkeypatch):
    sights: list[Sight] = []
    plain = for_transformers._sight

    def kept(*args):
        sights.append(plain(*args))
        return sights[-1]

    monkeypatch.setattr(for_transformers, "_sight", kept)
    packed = PackedModel(mistral(window))
    packed.close()
    assert {(own.causal, own.window) for own in sights} == {(window is None, window)}


def test_rules_that_are_no_plain_window():
    rule = for_transformers.sliding_window_causal_mask_function
    causal = for_transformers.causal_mask_function
    assert for_transformers._same(rule(5), rule(5))
    for other in (rule(6), causal, lambda b, h, q, k: k > q - 5):
        assert not for_transformers._same(other, rule(5))


def test_it_is_attached_and_taken_off(on_npu):
    model = mistral(None)
    before = model.config._attn_implementation
    attached = attach_language(model)
    attached.remove()
    assert model.config._attn_implementation == before
