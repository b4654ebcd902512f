"""Attention that leaves out whole blocks of keys, for the long sequences of video models.

Which blocks matter is for the caller to say, as in SpargeAttention (arXiv:2502.18137).
In the mask of npu_block_sparse_attention 1 means compute, the opposite of all other masks there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mindsd.device import npu_chip
from mindsd.errors import AttentionRefused

CHIPS = ("910B", "910_93")
STEP = 128  # a block of keys is a multiple of it
DIMS = (64, 128)


def attend_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    computed: Tensor,
    block: tuple[int, int] = (STEP, STEP),
    scale: float | None = None,
) -> Tensor:
    """softmax(q k^T * scale) v over the chosen blocks: [B, H, Tq, D].

    Args:
        q: [B, H, Tq, D], float16 or bfloat16.
        k, v: [B, Hkv, Tk, D].
        computed: bool [B, H, ceil(Tq / block[0]), ceil(Tk / block[1])], True = compute. Whoever
            has none in its row gets zeros.
        block: tokens of queries and of keys that are decided upon together.
        scale: None is 1 / sqrt(D).

    Raises:
        AttentionRefused: the operator is not documented for this; the message has the numbers.
    """
    if (reason := cannot_skip(q, k, v, computed, block)) is not None:
        raise AttentionRefused(f"npu block sparse: {reason}")
    return torch.ops.npu.npu_block_sparse_attention(
        *(tensor.contiguous() for tensor in (q, k, v)),
        computed.to(torch.int8).contiguous(),
        list(block),
        q_input_layout="BNSD",
        kv_input_layout="BNSD",
        num_key_value_heads=k.shape[1],
        scale_value=1 / math.sqrt(q.shape[3]) if scale is None else scale,
        inner_precise=0,  # float32 inside; bfloat16 takes no other
    )[0]


def cannot_skip(
    q: Tensor, k: Tensor, v: Tensor, computed: Tensor, block: tuple[int, int]
) -> str | None:
    """Why `attend_blocks` cannot answer, or None."""
    if (reason := cannot_attend(q, k, v)) is not None:
        return reason
    if block[0] < 1 or block[1] < 1 or block[1] % STEP:
        return f"a block has a multiple of {STEP} keys, got {block}"
    full = (*q.shape[:2], -(-q.shape[2] // block[0]), -(-k.shape[2] // block[1]))
    if computed.dtype != torch.bool or tuple(computed.shape) != full:
        return f"what is computed must be bool {full}, got {computed.dtype} {tuple(computed.shape)}"
    return None


def cannot_attend(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why the operator is not documented for these tensors, whatever is left out."""
    if (chip := npu_chip(q.device.index or 0)) not in CHIPS:
        return f"a {chip} has no operator for it"
    if q.dtype not in (torch.float16, torch.bfloat16) or not q.dtype == k.dtype == v.dtype:
        return f"it computes float16 and bfloat16, got {q.dtype}, {k.dtype}, {v.dtype}"
    if q.shape[3] not in DIMS or k.shape[3] != q.shape[3] or k.shape != v.shape:
        return f"head_dim must be one of 64, 128; got q {tuple(q.shape)}, k {tuple(k.shape)}"
    if q.shape[1] % k.shape[1] or q.shape[0] != k.shape[0]:
        return f"query heads must be a multiple of key heads, got {q.shape[1]}, {k.shape[1]}"
    return None
