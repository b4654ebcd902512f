"""FlashAttention 2 for Ascend NPUs, where the package `flash-attn-npu` is installed.

Its functions have FlashAttention's own arguments, and take less than those say: no masks, and
windows are not trusted.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mindsd.device import npu_chip

from .contract import Call

CHIPS = ("910B", "910_93")  # its package raises when it is imported on another
DTYPES = (torch.float16, torch.bfloat16)
WIDEST = 256


class FlashNpu:
    """Dense and packed calls, causal or not, with grouped heads."""

    name = "flash-attn-npu"

    def __init__(self, devices: Sequence[str] = ("npu",)):
        self.installed = importlib.util.find_spec("flash_attn_npu") is not None
        self.devices = tuple(devices)

    def refuses(self, call: Call) -> str | None:
        if not self.installed:
            return "flash-attn-npu is not installed (it is compiled for the machine's CANN)"
        if call.q.device.type not in self.devices:
            return f"tensors are on {call.q.device.type}, it computes on npu only"
        if (chip := npu_chip(call.q.device.index or 0)) not in CHIPS:
            return f"it does not load on a {chip}"
        return cannot(call)

    def run(self, call: Call) -> Tensor:
        package = importlib.import_module("flash_attn_npu")
        how = {"softmax_scale": call.scaling, "causal": call.causal}
        q, k, v = (x.transpose(1, 2).contiguous() for x in (call.q, call.k, call.v))
        if call.varlen is None:
            return package.flash_attn_func(q, k, v, **how).transpose(1, 2)
        bounds = call.varlen.q, call.varlen.k
        ends = [torch.tensor(own, dtype=torch.int32).to(q.device) for own in bounds]
        longest = [max(b - a for a, b in pairwise(own)) for own in bounds]
        out = package.flash_attn_varlen_func(q[0], k[0], v[0], *ends, *longest, **how)
        return out[None].transpose(1, 2)


def cannot(call: Call) -> str | None:
    """What it does not compute."""
    if call.q.dtype not in DTYPES:
        return f"it computes float16 and bfloat16, not {call.q.dtype}"
    if call.mask is not None:
        return "it takes no mask"
    if call.window is not None:
        return f"it knows no windows in all its versions, got {call.window}"
    dims = call.q.shape[3], call.v.shape[3]
    if dims[0] != dims[1] or dims[0] > WIDEST or dims[0] % 8:
        return f"one head_dim, a multiple of 8 up to {WIDEST}; got {dims}"
    lengths = [(part.q.shape[2], part.k.shape[2]) for part in call.sequences()]
    if any(0 in pair for pair in lengths):
        return f"a sequence has no tokens: (queries, keys) = {lengths}"
    if call.causal and any(queries > keys for queries, keys in lengths):
        return f"causal, no row may be without a key; got {lengths}"
    return None
