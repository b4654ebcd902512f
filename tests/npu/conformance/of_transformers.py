"""transformers 5.23.0: its sdpa and flash_attention_2 on NPUs."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mindsd.attention.for_transformers import attach_language
from tests.npu.simulator.tier1 import start

from .case import Case
from .inputs import attention, drawn
from .ours import by_mindsd

PROJECT = f"transformers {transformers.__version__}"
LAYERS = 3
SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
TOKENS = torch.randint(3, 128, (2, 24), generator=torch.Generator().manual_seed(0))
PADDED = torch.ones_like(TOKENS)
PADDED[0, :4] = 0
Q, K, V = (drawn(1, 6, 2, 16, seed=seed) for seed in range(3))
BIAS = drawn(1, 2, 6, 6, seed=3)


class Layer(nn.Module):
    """As much of an attention layer as transformers asks for."""

    num_key_value_groups = 1
    is_causal = False
    layer_idx = 0


def biased() -> Tensor:
    q, k, v = (x.transpose(1, 2).to("npu") for x in (Q, K, V))
    return sdpa_attention_forward(Layer(), q, k, v, BIAS.to("npu"))[0]


def logits(kind: Any, config: Any, way: str, device: str, mask: Tensor | None = None) -> Tensor:
    """Of the tokens that are no padding; the way "mindsd" is attention that mindsd computes."""
    torch.manual_seed(0)
    model = kind(config).eval().to(torch.bfloat16)
    if way == "mindsd":
        attach_language(model)
    else:
        model.set_attn_implementation(way)
    mask = torch.ones_like(TOKENS) if mask is None else mask
    with torch.no_grad():
        out = model.to(device)(TOKENS.to(device), attention_mask=mask.to(device)).logits
    return out.cpu()[mask.bool()]


def mistral(way: str, device: str) -> Tensor:
    config = MistralConfig(**SIZES, sliding_window=4)
    return logits(MistralForCausalLM, config, way, device)


def waits_of_a_forward(way: str) -> str:
    """Those that padding brings: a forward without padding has the others, too."""
    found = []
    for mask in (PADDED, None, PADDED):  # the first warms up
        log = start().log
        log.clear()
        logits(LlamaForCausalLM, LlamaConfig(**SIZES), way, "npu", mask)
        found.append(log.host_syncs["copy to the host"])
    return f"the host waits {found[2] - found[1]} times more in {LAYERS} layers"


CASES = [
    Case(
        PROJECT,
        "sdpa with an additive bias",
        biased,
        lambda: attention(Q, K, V, attn_mask=BIAS),
        "huggingface/transformers#48843",
        lambda: by_mindsd(Q, K, V, attn_mask=BIAS),
    ),
    Case(
        PROJECT,
        "flash_attention_2, Mistral with sliding_window=4",
        lambda: mistral("flash_attention_2", "npu"),
        lambda: mistral("eager", "cpu"),
        ours=lambda: mistral("mindsd", "npu"),
    ),
    Case(
        PROJECT,
        "flash_attention_2, Llama with padding: waits for the device",
        lambda: waits_of_a_forward("flash_attention_2"),
        ours=lambda: waits_of_a_forward("mindsd"),
    ),
]
