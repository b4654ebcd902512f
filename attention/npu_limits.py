"""What the attention operators of Ascend NPUs are documented not to take, in words.

Source: the pages of npu_fusion_attention, npu_fused_infer_attention_score and
npu_prompt_flash_attention in Ascend/op-plugin, docs/zh/custom_APIs/torch_npu.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from .contract import Call
from .npu_mask import any_blind

NARROW_VALUES = "950"  # the one that takes values narrower than keys
FUSION_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
INFER_DTYPES = (torch.float16, torch.bfloat16)
MOST_HEADS, MOST_GROUPS = 256, 64
MOST_TOKENS = 2**20
MOST_PACKED = 1024  # sequences
PACKED_DIMS = ((128, 128), (192, 128), (64, 64))  # (key, value) of fused inference; 64 is not for
# grouped heads


def no_fusion(call: Call, chip: str) -> str | None:
    """Why npu_fusion_attention cannot compute a call exactly."""
    dim, values = call.q.shape[3], call.v.shape[3]
    if call.q.dtype not in FUSION_DTYPES:
        return f"it computes float16, bfloat16 and float32, not {call.q.dtype}"
    if dim > 768:
        return f"head_dim must be at most 768, got {dim}"
    if values > dim or (values < dim and chip != NARROW_VALUES):
        return f"on a {chip} values must be as wide as keys, {dim}; got {values}"
    if call.q.shape[1] > MOST_HEADS:
        return f"it takes at most {MOST_HEADS} heads, got {call.q.shape[1]}"
    return _no_tokens(call, MOST_TOKENS) or _no_mask(call) or _no_packing(call)


def no_prompt(call: Call) -> str | None:
    """Why npu_prompt_flash_attention cannot compute a call exactly on a 310P."""
    dim, values = call.q.shape[3], call.v.shape[3]
    batch, heads = call.q.shape[:2]
    if call.q.dtype != torch.float16:
        return f"a 310P attends in float16 only, got {call.q.dtype}"
    if call.varlen is not None:
        return "a 310P takes no packed sequences"
    if dim > 512 or dim % 16 or values != dim:
        return f"a 310P wants one head_dim, a multiple of 16 up to 512; got {dim}, {values}"
    if batch > 128 or heads > MOST_HEADS:
        return f"a 310P takes a batch of 128 and {MOST_HEADS} heads, got {batch}, {heads}"
    if call.groups > 1:
        return f"a 310P takes no grouped heads, got {call.groups} to a key head"
    if call.mask is not None and call.mask.dtype != torch.bool:
        return "a 310P adds no bias to its scores; give it a bool mask"
    if call.mask is not None and call.mask.shape[1] > 1:
        return f"a 310P takes one mask for all heads, got {call.mask.shape[1]}"
    return _no_tokens(call, 65535)


def no_infer_packed(call: Call) -> str | None:
    """Why npu_fused_infer_attention_score cannot compute a packed call."""
    if call.band[1] != 0:  # reported: without a mask it averages all values (vllm-ascend#13699)
        return "what is packed must be causal"
    if call.q.dtype not in INFER_DTYPES:
        return f"it computes float16 and bfloat16, not {call.q.dtype}"
    return no_packed_dims(call.q.shape[3], call.v.shape[3], call.groups)


def no_packed_dims(dim: int, values: int, groups: int) -> str | None:
    """Why heads of these sizes do not go through fused inference end to end (TND)."""
    if (dim, values) not in PACKED_DIMS or (dim == 64 and groups > 1):
        return (
            "packed, head_dim of keys and values must be 128, 128 or 192, 128, or without grouped "
            f"heads 64, 64; got {dim}, {values} and {groups} heads to a key head"
        )
    if groups > MOST_GROUPS:
        return f"at most {MOST_GROUPS} heads share a key head, got {groups}"
    return None


def _no_tokens(call: Call, most: int) -> str | None:
    tokens = call.q.shape[2], call.k.shape[2]
    if min(tokens) == 0 or max(tokens) > most:
        return f"(queries, keys) must be 1 to {most}, got {tokens}"
    return None


def _no_mask(call: Call) -> str | None:
    mask = call.mask
    if mask is not None and mask.dtype not in (torch.bool, call.q.dtype):
        return f"its bias must be {call.q.dtype}, got {mask.dtype}"
    return None


def _no_packing(call: Call) -> str | None:
    if call.varlen is None:
        return None
    both = spans(call.varlen.q), spans(call.varlen.k)
    lengths = [(q, k) for q, k in zip(*both, strict=True) if q or k]
    if len(lengths) > MOST_PACKED:
        return f"it packs at most {MOST_PACKED} sequences, got {len(lengths)}"
    for queries, keys in lengths:
        if not queries or not keys or any_blind(call.band, queries, keys):
            return f"packed, every row must see a key; got {queries} queries over {keys} keys"
    return None


def spans(bounds: tuple[int, ...]) -> list[int]:
    """The lengths between boundaries."""
    return [b - a for a, b in pairwise(bounds)]
