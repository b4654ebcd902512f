"""Norms, gates and rotary embeddings of models, on a simulated NPU."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.activations import GEGLU
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mindsd.attention.npu_fused import fuse
from mindsd.attention.npu_rotary import HALF, PAIRS, cannot_rotate, rotate
from mindsd.wrap import wrap
from tests.attention.simulated import simulated

SIZES = dict(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    pad_token_id=0,
)
IDS = torch.tensor([[3, 17, 5, 9, 42, 8, 30]])
LLAMA = {"npu_rms_norm": 5, "npu_add_rms_norm": 2, "npu_rotary_mul": 2, "npu_swiglu": 2}


def model(kind, config, dtype=torch.float32, **more):
    torch.manual_seed(0)
    own = kind(config(**SIZES | more)).eval()
    with torch.no_grad():
        for parameter in own.parameters():
            if parameter.dim() == 1:  # norms: weights of 1 hide what is multiplied
                parameter.uniform_(0.5, 1.5)
    return own.to(dtype)


def llama(**more):
    return model(LlamaForCausalLM, LlamaConfig, **more)


def apart(own, ids=IDS):
    """What is served and left, the operators of one forward, and by how much the logits differ."""
    with torch.inference_mode():
        plain = own(ids).logits
        with simulated() as npu, fuse(own, ("cpu",)) as fused:
            npu.log.clear()
            found = own(ids).logits
            assert not npu.log.host_syncs
            ops = Counter(npu.log.ops())
        assert torch.equal(own(ids).logits, plain)  # all of it is off again
    return fused, ops, float((found - plain).abs().max() / plain.abs().max())


@pytest.mark.parametrize("dtype, most", [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_a_llama_runs_fused(dtype, most):
    fused, ops, wrong = apart(llama(dtype=dtype))
    assert Counter(fused.served.values()) == LLAMA and not fused.left
    # The norm after attention is part of the addition; each of two rotations is a call.
    assert ops == {"npu_rms_norm": 3, "npu_add_rms_norm": 2, "npu_rotary_mul": 4, "npu_swiglu": 2}
    assert wrong <= most


def test_a_qwen3_has_norms_in_its_heads():
    fused, _, wrong = apart(model(Qwen3ForCausalLM, Qwen3Config))
    assert fused.served["model.layers.0.self_attn.q_norm"] == "npu_rms_norm" and wrong <= 1e-5


def test_what_only_looks_alike_is_left_with_a_reason():
    """Gemma scales by 1 + weight, norms twice round attention, and its gate is a GELU."""
    fused, ops, wrong = apart(model(Gemma2ForCausalLM, Gemma2Config))
    assert fused.left["model.layers.0.input_layernorm"].startswith("npu_rms_norm is off by")
    assert fused.left["model.layers.0.mlp"].startswith("npu_swiglu is off by")
    assert "npu_rms_norm" not in ops and "npu_add_rms_norm" not in ops and wrong <= 1e-5


def test_pairs_are_turned_where_a_model_turns_pairs():
    own = model(CohereForCausalLM, CohereConfig, use_qk_norm=False)
    fused, ops, wrong = apart(own)
    assert fused.served["model.layers.0.self_attn"] == "npu_rotary_mul"
    assert ops["npu_rotary_mul"] == 4 and wrong <= 1e-5
    _, ops, wrong = apart(own, IDS.repeat(2, 1))
    assert wrong <= 1e-5  # each has angles of its own then: as documented or as before


def test_angles_that_are_scaled_are_left():
    """YaRN's cosines exceed 1, beyond what npu_rotary_mul is documented for."""
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    rope["original_max_position_embeddings"] = 16
    fused, ops, wrong = apart(llama(rope_parameters=rope))
    assert "npu_rotary_mul" not in ops and ops["npu_swiglu"] == 2 and wrong <= 1e-5


def test_geglu_is_exact():
    torch.manual_seed(0)
    own = GEGLU(16, 32).eval()
    x = torch.randn(2, 5, 16)
    with simulated() as npu, torch.inference_mode():
        plain = own(x)
        with fuse(own, ("cpu",)) as fused:
            assert fused.served == {"": "npu_geglu"}
            npu.log.clear()
            assert (own(x) - plain).abs().max() <= 1e-6
        [call] = npu.log.calls
        assert call["approximate"] == 0


def test_gate_and_up_share_memory_until_it_is_taken_off():
    own = llama()
    mlp: Any = own.model.layers[0].mlp
    before = [mlp.gate_proj.weight.clone(), mlp.up_proj.weight.clone()]
    parameters = [mlp.gate_proj.weight, mlp.up_proj.weight]
    with simulated() as npu, torch.no_grad():
        with fuse(own, ("cpu",)):
            storages = {parameter.untyped_storage().data_ptr() for parameter in parameters}
            assert len(storages) == 1 and mlp.gate_proj.weight is parameters[0]
            mlp.gate_proj.weight.mul_(2)  # an edit of the weights is an edit of both
            x = torch.randn(1, 3, 32)
            expected = mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
            assert (mlp(x) - expected).abs().max() <= 1e-5
            mlp.gate_proj.weight.div_(2)
            npu.log.clear()
            with wrap(mlp.up_proj, "forward", lambda original, x: original(x) * 3):
                expected = mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
                assert torch.equal(mlp(x), expected)  # an adapter is not passed by
            assert npu.log.ops() == []
        storages = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        assert len(storages) == 2
        assert all(map(torch.equal, before, parameters))


def test_gradients_and_other_dtypes_go_the_old_way():
    own = llama()
    with simulated() as npu, fuse(own, ("cpu",)):
        npu.log.clear()
        own(IDS).logits.sum().backward()
        with torch.no_grad():
            own.model.norm(torch.randn(1, 3, 32).double())
        assert npu.log.ops() == []


def test_a_chip_with_fewer_operators_and_other_devices():
    own = llama(dtype=torch.float16)
    with simulated("310P"), fuse(own, ("cpu",)) as fused:
        assert set(fused.served.values()) == {"npu_rms_norm"}
    with fuse(own) as fused:
        assert not fused.served and not fused.left


def test_rotations_that_are_not_documented():
    x, cos = torch.zeros(2, 4, 5, 16), torch.zeros(2, 1, 5, 16)
    assert cannot_rotate(x, cos, HALF) is None
    assert cannot_rotate(x, cos[:1], PAIRS) is None
    refused = {
        "the same, got torch.float32, torch.float16": (x, cos.half(), HALF),
        "head_dim must be even, below 896, and cos's; got 15, 15": (x[..., 1:], cos[..., 1:], HALF),
        "got 16, 8": (x, cos[..., :8], HALF),
        "pairs turn with one batch of cos and below 1000 heads, got 8": (x, cos, PAIRS),
        "must be below 1000, got 2, 1000": (x.repeat(1, 250, 1, 1), cos, HALF),
    }
    for words, arguments in refused.items():
        reason = cannot_rotate(*arguments)
        assert reason is not None and words in reason
    with simulated():
        cos, sin = torch.eye(4)[2:4].view(2, 1, 1, 1, 4)
        turned = rotate(torch.arange(4.0).view(1, 1, 1, 4), cos, sin, PAIRS)
    assert turned.flatten().tolist() == [0, 0, 2, 2]


def test_a_broken_operator_is_left(monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no kernel for this chip")

    names = ("npu_rms_norm", "npu_add_rms_norm", "npu_swiglu", "npu_rotary_mul")
    with simulated(), monkeypatch.context() as patched:
        patched.setattr(torch.ops, "npu", SimpleNamespace(**dict.fromkeys(names, broken)))
        with fuse(llama(), ("cpu",)) as fused:
            assert not fused.served
            assert fused.left["model.norm"] == "npu_rms_norm OSError: no kernel for this chip"
