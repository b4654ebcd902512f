"""A language model of transformers on the simulated device, with nothing told where it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from mindsd.kvcache.pages import NpuPages, PageStore
from mindsd.kvcache.step import Segment, Step, stepping

FUSED, WRITE = "npu_fused_infer_attention_score", "npu_scatter_pa_kv_cache"
WORDS = 60


def mistral(window: int | None) -> Any:
    from transformers import MistralConfig, MistralForCausalLM  # it imports torch_npu

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=128,
        sliding_window=window,
        max_position_embeddings=512,
    )
    return MistralForCausalLM(config).eval().half()


@pytest.mark.parametrize("window", [None, 9])
@torch.inference_mode()
def test_it_is_proven_fused_and_attends_over_pages(npu, window):
    from mindsd.pipelines.packed import PackedModel  # it imports transformers

    model = mistral(window)
    text = torch.randint(0, WORDS, (21,), generator=torch.Generator().manual_seed(1))
    alone = model.float()(text[None], use_cache=False).logits[0]
    model = model.half().to("npu")
    packed = PackedModel(model)  # raises unless packed and alone agree
    assert packed._fused is not None and not packed._fused.left
    assert set(packed._fused.served.values()) == {
        "npu_rms_norm",
        "npu_add_rms_norm",
        "npu_rotary_mul",
        "npu_swiglu",
    }
    asked = Counter(npu.log.ops())
    assert asked[FUSED] and asked[WRITE]
    lanes, lane_of = packed.lanes(1, 128)
    store = PageStore([lane.pool.total for lane in lanes], 128, lane_of, "auto")
    for past, length in ((0, 18), (18, 1), (19, 2)):
        step = Step([Segment(0, length, past, [[0]])], store, lanes, packed.device)
        ids = text[past : past + length].to("npu")
        positions = torch.arange(past, past + length, device="npu")
        every = torch.arange(length, device="npu")
        step.slots  # noqa: B018  # made before the waits are counted
        npu.log.clear()
        with stepping(step):
            found = packed.forward(ids[None], positions[None], every)
        assert not npu.log.host_syncs, npu.log.host_syncs
        assert Counter(npu.log.ops())[WRITE] == 2
        wrong = (found.cpu().float() - alone[past : past + length]).abs().max()
        assert wrong <= 2e-2 * alone.abs().max()
    assert isinstance(store.of(0, 0, found, found)[0], NpuPages)
    packed.close()
