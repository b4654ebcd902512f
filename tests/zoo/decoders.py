"""Small decoders of many architectures with random weights, as transformers makes them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

WORDS = 128
POSITIONS = 256
COMMON: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
MIXED = ["sliding_attention", "full_attention"]
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}
# What each needs beside the common; windows are short, so that the tests walk out of them.
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "mistral": {"sliding_window": 9},
    "gemma2": {"sliding_window": 9, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": 9, "query_pre_attn_scalar": 8, "layer_types": MIXED},
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
    "gpt_neox": {},
    "olmo2": {},
    "granite": {},
    "smollm3": {"num_hidden_layers": 4},
    "glm4": {},
    "gpt_oss": {**EXPERTS, "sliding_window": 9},
    "mixtral": EXPERTS,
    "deepseek_v3": {
        "head_dim": None,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "first_k_dense_replace": 1,
    },
}


def decoder(kind: str, **options: Any) -> Any:
    """A model of two layers, with weights large enough that its texts do not just repeat."""
    torch.manual_seed(0)
    given = {**COMMON, **DECODERS.get(kind, {}), **options}
    config = AutoConfig.for_model(kind, **{k: v for k, v in given.items() if v is not None})
    config.eos_token_id = given["eos_token_id"]
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
    if model.generation_config is not None:
        model.generation_config.eos_token_id = given["eos_token_id"]
    return model


def prompts(number: int, most: int = 40) -> list[list[int]]:
    """So many prompts of different lengths, the same every time."""
    generator = torch.Generator().manual_seed(number)
    lengths = torch.randint(1, most, (number,), generator=generator).tolist()
    return [torch.randint(3, WORDS, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def generated(model: Any, prompt: list[int], number: int) -> list[int]:
    """What transformers' own `generate` says, greedily."""
    ids = torch.tensor([prompt], device=model.device)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=number,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()
