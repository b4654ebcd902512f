"""Tensors that all cases share, and attention in plain torch on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def on_npu(options: dict[str, Any]) -> dict[str, Any]:
    """The options with their tensors on the NPU."""
    return {n: x.to("npu") if isinstance(x, Tensor) else x for n, x in options.items()}


def attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """q, k, v and the result [B, S, N, D], in float32 by torch's own on the CPU."""
    mask = options.get("attn_mask")
    if mask is not None and mask.is_floating_point():
        options["attn_mask"] = mask.float()
    q, k, v = (x.float().transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)


KEEP = torch.tensor([True, True, True, True, False, False])
ADDED = torch.zeros(1, 1, 1, 6, dtype=torch.bfloat16).masked_fill(~KEEP, -10000.0)
