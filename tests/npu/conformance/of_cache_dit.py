"""cache-dit 1.5.3: its two attention backends for NPUs. Its wheel must be on sys.path."""

from __future__ import annotations

from typing import Any

import torch
from cache_dit.attention.backends.npu import (  # type: ignore[import-not-found]
    _native_npu_attention,
    _npu_fused_infer_attention,
)
from torch import Tensor

from .case import Case
from .inputs import attention, drawn, on_npu
from .ours import by_mindsd

PROJECT = "cache-dit 1.5.3"
Q, K, V = (drawn(1, 16, 2, 64, dtype=torch.float16, seed=seed) for seed in range(3))
KEEP = (torch.arange(16) < 11).view(1, 16)
WIDE = KEEP.view(1, 1, 1, 16).expand(1, 1, 16, 16)
ADDED = torch.zeros(1, 16, dtype=torch.float16).masked_fill(~KEEP, -10000.0)


def native(**options: Any) -> Tensor:
    return _native_npu_attention(Q.to("npu"), K.to("npu"), V.to("npu"), **on_npu(options))


def fused_infer() -> Any:
    result = _npu_fused_infer_attention(Q.to("npu"), K.to("npu"), V.to("npu"))
    return result if isinstance(result, Tensor) else f"returns a {type(result).__name__}"


def right(**options: Any) -> Tensor:
    return attention(Q, K, V, **options)


CASES = [
    Case(
        PROJECT,
        "_native_npu with is_causal=True",
        lambda: native(is_causal=True),
        lambda: right(is_causal=True),
        ours=lambda: by_mindsd(Q, K, V, is_causal=True),
    ),
    Case(
        PROJECT,
        "_native_npu with a bool mask [B,1,Sq,Skv]",
        lambda: native(attn_mask=WIDE),
        lambda: right(attn_mask=WIDE),
        ours=lambda: by_mindsd(Q, K, V, attn_mask=WIDE),
    ),
    Case(
        PROJECT,
        "_native_npu with an additive mask [B,Skv]",
        lambda: native(attn_mask=ADDED),
        lambda: right(attn_mask=KEEP.view(1, 1, 1, 16)),
        ours=lambda: by_mindsd(Q, K, V, attn_mask=ADDED.view(1, 1, 1, 16)),
    ),
    Case(PROJECT, "_npu_fia", fused_infer, right, ours=lambda: by_mindsd(Q, K, V)),
]
