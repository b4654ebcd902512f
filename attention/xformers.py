"""xFormers' memory_efficient_attention, on NVIDIA GPUs.

Layout there is [B, tokens, heads, D]; a bias must be a full [B, H, Tq, Tk] tensor whose rows are
aligned to 8 numbers (docstrings of xformers.ops.fmha).
"""

from __future__ import annotations

import importlib
import importlib.util
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .contract import Call
from .mask import NOTHING, blind_rows, full_mask

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
ALIGNED = 8  # numbers; also what its kernels want of head_dim


class XFormers:
    """Dense calls with any mask, and packed ones; no grouped heads, windows, odd head_dim."""

    name = "xformers"

    def __init__(self) -> None:
        self.installed = importlib.util.find_spec("xformers") is not None

    def refuses(self, call: Call) -> str | None:
        if not self.installed:
            return "xformers is not installed (pip install 'mindsd[xformers]')"
        if call.q.device.type != "cuda":
            return f"tensors are on {call.q.device.type}, it computes on cuda only"
        return cannot(call)

    def run(self, call: Call) -> Tensor:
        ops = importlib.import_module("xformers.ops")
        biases = importlib.import_module("xformers.ops.fmha.attn_bias")
        mask = None
        if call.varlen is not None:
            bias = _packed_bias(call, biases)
        elif call.causal and call.mask is None:
            bias = biases.LowerTriangularFromBottomRightMask()
        else:
            mask = full_mask(call)
            bias = None if mask is None else _tensor_bias(call, mask)
        q, k, v = (tensor.transpose(1, 2) for tensor in (call.q, call.k, call.v))
        out = ops.memory_efficient_attention(q, k, v, attn_bias=bias, p=0.0, scale=call.scale)
        out = out.transpose(1, 2)
        return out if mask is None else out.masked_fill(blind_rows(mask), 0)


def cannot(call: Call) -> str | None:
    """What it cannot compute exactly, or only with copies that sdpa does without."""
    tq, tk = call.q.shape[2], call.k.shape[2]
    if call.q.dtype not in DTYPES:
        return f"it computes float16, bfloat16 and float32, not {call.q.dtype}"
    if call.q.shape[3] % ALIGNED or call.v.shape[3] % ALIGNED:
        dims = (call.q.shape[3], call.v.shape[3])
        return f"head_dim {dims} is not a multiple of {ALIGNED}"
    if call.groups > 1:
        return f"grouped heads ({call.groups} to a key head) would need copies of k and v"
    if call.window is not None:
        return f"window {call.window} would need a whole bias matrix"
    if call.mask is not None and call.mask.dtype not in (torch.bool, call.q.dtype):
        return f"its bias must be {call.q.dtype}, got {call.mask.dtype}"
    lengths = [(part.q.shape[2], part.k.shape[2]) for part in call.sequences()]
    if any(0 in pair for pair in lengths):
        return f"a sequence has no tokens: (queries, keys) = {lengths}"
    if call.causal and any(queries > keys for queries, keys in lengths):
        return f"causal with more queries than keys leaves rows without a key: {tq} over {tk}"
    return None


def _tensor_bias(call: Call, mask: Tensor) -> Tensor:
    """The mask as an additive [B, H, Tq, Tk] tensor with aligned rows."""
    batch, heads, tq, _ = call.q.shape
    tk = call.k.shape[2]
    room = -(-tk // ALIGNED) * ALIGNED
    bias = call.q.new_zeros(batch, heads, tq, room)[..., :tk]
    return bias.masked_fill_(~mask, NOTHING) if mask.dtype == torch.bool else bias.copy_(mask)


def _packed_bias(call: Call, biases: Any) -> Any:
    assert call.varlen is not None
    lengths = [[b - a for a, b in pairwise(side)] for side in (call.varlen.q, call.varlen.k)]
    kind = "BlockDiagonalCausalFromBottomRightMask" if call.causal else "BlockDiagonalMask"
    return getattr(biases, kind).from_seqlens(*lengths)
