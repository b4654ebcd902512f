"""Linear layers in 8 bits on a simulated NPU: which, with what, and that they compute W8A8.

Their numbers are held against the same arithmetic in plain torch.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from mindsd.attention import npu_linear
from mindsd.attention.layers import check_layers
from mindsd.attention.npu_fused import fuse
from mindsd.attention.npu_w8a8 import cannot_quantize, quantize
from mindsd.errors import RequestError
from tests.attention.emulated_w8a8 import emulated, w8a8
from tests.attention.simulated import simulated

HALF = torch.float16
IDS = torch.tensor([[3, 17, 5, 9, 42, 8, 30]])


class Blocks(nn.Module):
    """As much of a model as has blocks."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.blocks = nn.ModuleList(layers)


def llama(dtype: torch.dtype = torch.bfloat16, **more: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: Any = dict(hidden_size=512, intermediate_size=512, head_dim=128, vocab_size=600) | more
    heads: Any = dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    own: Any = LlamaForCausalLM(LlamaConfig(**sizes, **heads, pad_token_id=0)).eval()
    return own.to(dtype)


@pytest.mark.parametrize("dtype", npu_linear.DTYPES)
@torch.inference_mode()
def test_a_llama_computes_what_the_emulation_computes(dtype):
    own = llama(dtype)
    plain = own(IDS).logits
    with simulated() as npu, quantize(own, ("cpu",)) as fused:
        npu.log.clear()
        found, ops = own(IDS).logits, Counter(npu.log.ops())
        assert not npu.log.host_syncs
    served = sorted(fused.served)
    assert len(served) == 2 * 5 and set(fused.served.values()) == {"npu_quant_matmul"}
    assert ops == {"npu_dynamic_quant": 10, "npu_quant_matmul": 10}
    with emulated(own, served):
        expected = own(IDS).logits
    most = plain.abs().max()
    # Both round alike; a sum that is rounded to the other side moves a number by one of its bits.
    assert (found - expected).abs().max() <= 2 * torch.finfo(dtype).eps * most
    assert 1e-3 < (found - plain).abs().max() / most < 0.1
    assert torch.equal(own(IDS).logits, plain)  # all of it is off again


def test_what_is_left_plain_has_a_reason():
    with simulated(), quantize(llama(), ("cpu",)) as fused:
        assert fused.left == {
            "lm_head": "stands outside of the repeated blocks",
            **{
                f"model.layers.{i}.self_attn.{name}_proj": "has a side under 512 or over 65535"
                for i in range(2)
                for name in "kv"
            },
        }


def test_adapters_are_run_plainly():
    """A layer that somebody runs has more to it than its weights."""
    own = Blocks(nn.Linear(512, 512), nn.Linear(512, 512)).half()
    own.blocks[1].register_forward_hook(lambda *_: None)
    with simulated(), quantize(own, ("cpu",)) as fused:
        assert fused.left == {"blocks.1": "is run by somebody else already"}


def test_denoisers_keep_embeddings_and_modulations(monkeypatch):
    monkeypatch.setattr(npu_linear, "LEAST", 16)
    flux = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    ).half()
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=32,
        norm_num_groups=8,
        attention_head_dim=4,
        layers_per_block=1,
    ).half()
    with simulated(), quantize(flux, ("cpu",)) as fused:
        blocks = [name for name in fused.served if "norm" in name or "emb" in name]
        assert not blocks and "transformer_blocks.0.attn.to_q" in fused.served
        assert fused.left["transformer_blocks.0.norm1.linear"] == "embeds, modulates or chooses"
        assert fused.left["x_embedder"] == "stands outside of the repeated blocks"
    with simulated(), quantize(unet, ("cpu",)) as fused:
        steering = "down_blocks.0.resnets.0.time_emb_proj"
        assert fused.left[steering] == "embeds, modulates or chooses"
        assert "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2" in fused.served


def test_a_gate_is_not_joined_past_its_eight_bits():
    own = llama()
    with simulated(), quantize(own, ("cpu",)), fuse(own, ("cpu",)) as fused:
        assert "npu_swiglu" not in fused.served.values()
        assert "npu_rms_norm" in fused.served.values()


def test_a_layer_with_a_bias_and_one_that_was_changed():
    torch.manual_seed(0)
    own = Blocks(nn.Linear(512, 520)).half()
    linear: Any = own.blocks[0]
    x = torch.randn(3, 4, 512).half()
    with simulated() as npu, torch.no_grad(), quantize(own, ("cpu",)):
        assert torch.allclose(linear(x), w8a8(x, linear.weight, linear.bias), rtol=2e-3, atol=1e-3)
        [_, call] = npu.log.calls[-2:]
        assert call["output_dtype"] == 5 and call["pertoken_scale"].shape == (12,)  # float16
        assert call["x2"].shape == (512, 520) and call["bias"].dtype == torch.float32
        linear.weight.mul_(2)
        npu.log.clear()
        expected = nn.functional.linear(x, linear.weight, linear.bias)
        assert torch.equal(linear(x), expected) and npu.log.ops() == []


def test_refusals_by_name():
    with pytest.raises(RequestError, match="unknown layers 'int8'; choose auto, off, w8a8"):
        check_layers("int8", "cpu", HALF)
    for wish in ("auto", "off"):
        check_layers(wish, "cpu", torch.float32)
    with pytest.raises(RequestError, match="of Ascend NPUs only; the model is on cpu"):
        check_layers("w8a8", "cpu", HALF)
    with simulated("310P"):
        assert "this is a 310P" in str(cannot_quantize("npu", HALF))
    with simulated():
        assert cannot_quantize("npu", HALF) is None
        assert "the model is in float32" in str(cannot_quantize("npu", torch.float32))
        with pytest.raises(RequestError, match="no layer of Blocks is taken: has a side under 512"):
            quantize(Blocks(nn.Linear(8, 8)).half(), ("cpu",))
        with pytest.raises(RequestError, match="the model is on cpu"):
            quantize(Blocks(nn.Linear(512, 512)).half())
