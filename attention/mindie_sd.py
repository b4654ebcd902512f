"""MindIE SD's laser attention, where its package `mindiesd` is installed (Ascend NPUs).

Asked for the one thing that it has beyond torch_npu: long self-attention without a mask, by a
kernel that is named. Left to choose by itself (opt_mode "runtime") it forgets whether a call was
masked, and that kernel drops the mask (mindiesd 3.1.0).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from mindsd.device import npu_chip

from .contract import Call

CHIPS = ("910B", "910_93")
LONG, WIDEST = 4000, 128  # tokens and head_dim, by its own table of shapes


class MindieSd:
    """Unmasked self-attention of 4000 tokens and more, in float16."""

    name = "mindiesd"

    def __init__(self, devices: Sequence[str] = ("npu",)):
        self.installed = importlib.util.find_spec("mindiesd") is not None
        self.devices = tuple(devices)

    def refuses(self, call: Call) -> str | None:
        if not self.installed:
            return "mindiesd is not installed"
        if call.q.device.type not in self.devices:
            return f"tensors are on {call.q.device.type}, it computes on npu only"
        if (chip := npu_chip(call.q.device.index or 0)) not in CHIPS:
            return f"a {chip} has no laser attention"
        return cannot(call)

    def run(self, call: Call) -> Tensor:
        return importlib.import_module("mindiesd").attention_forward(
            call.q,
            call.k,
            call.v,
            scale=call.scaling,
            fused=True,
            head_first=True,
            opt_mode="manual",
            op_type="ascend_laser_attention",
            layout="BNSD",
        )

    def trials(self, device: torch.device, dtype: torch.dtype) -> dict[str, Call]:
        """Its self-test: an even length, and one that it pads."""
        generator = torch.Generator().manual_seed(0)
        made = {}
        for tokens in (4096, LONG + 1):
            drawn = torch.randn(3, 1, 2, tokens, 64, generator=generator, device="cpu")
            q, k, v = drawn.to(device, dtype)
            made[f"{tokens} tokens"] = Call(q, k, v)
        return made


def cannot(call: Call) -> str | None:
    """What it would compute wrongly, or not at all."""
    if call.mask is not None:
        return "its laser attention drops the mask"
    if call.band != (-1, -1):
        return "its dense attention knows neither causality nor windows"
    if call.varlen is not None:
        return "its packed attention fails for the lengths that its documentation asks for"
    if call.q.dtype != torch.float16:
        return f"it computes {call.q.dtype} in float16, which overflows or rounds"
    if call.groups > 1:
        return f"it takes no grouped heads, got {call.groups} to a key head"
    tokens, dims = (call.q.shape[2], call.k.shape[2]), (call.q.shape[3], call.v.shape[3])
    if tokens[0] != tokens[1] or tokens[0] < LONG:
        return f"its kernel is for self-attention of {LONG} tokens and more, got {tokens}"
    if dims[0] != dims[1] or dims[0] > WIDEST:
        return f"one head_dim of at most {WIDEST}, got {dims}"
    return None
