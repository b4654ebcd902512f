"""Ascend NPUs: torch_npu's fused attention operators, whatever torch's own sdpa does with a call.

torch's sdpa leaves them for any additive mask, for tensors of three dimensions and for every call
on a 310P, and silently computes the plain way there. Written from the documentation of Ascend's
op-plugin, and not yet run on an NPU: so nothing is used there before it passed its self-test.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from mindsd.device import NPU_CHIPS, NPU_SMALL, npu_chip
from mindsd.errors import AttentionRefused

from .contract import Call
from .npu_limits import no_fusion, no_prompt
from .npu_mask import FAR, MaskMemory, drop_of, hidden
from .npu_varlen import run_packed


class Npu:
    """Dense and packed calls, with any mask, window and grouped heads.

    Args:
        devices: kinds of devices whose tensors it takes.
    """

    name = "npu"

    def __init__(self, devices: Sequence[str] = ("npu",)) -> None:
        self.installed = importlib.util.find_spec("torch_npu") is not None
        self.devices = tuple(devices)
        self._masks = MaskMemory()

    def refuses(self, call: Call) -> str | None:
        if not self.installed:
            return "torch_npu is not installed"
        if call.q.device.type not in self.devices:
            return f"tensors are on {call.q.device.type}, it computes on npu only"
        chip = npu_chip(call.q.device.index or 0)
        if chip in NPU_CHIPS:
            return no_fusion(call, chip)
        return no_prompt(call) if chip == NPU_SMALL else f"it does not know the chip {chip}"

    def run(self, call: Call) -> Tensor:
        if (reason := self.refuses(call)) is not None:
            raise AttentionRefused(f"npu: {reason}")
        if npu_chip(call.q.device.index or 0) == NPU_SMALL:
            return _prompt(call)
        return run_packed(call) if call.varlen is not None else self._fusion(call)

    def _fusion(self, call: Call) -> Tensor:
        """npu_fusion_attention.

        Documents disagree whether the bias is added before the scores are scaled or after. With
        queries that are scaled already, and a scale of 1, both are the same.
        """
        asked = hidden(call, self._masks)
        q, scale = (call.q, call.scaling) if asked.bias is None else (call.q * call.scaling, 1.0)
        tensors, layout = _laid_out(q, call.k, call.v)
        out = torch.ops.npu.npu_fusion_attention(
            *tensors,
            q.shape[1],
            layout,
            pse=asked.bias,
            atten_mask=asked.drop,
            scale=scale,
            pre_tockens=asked.before,
            next_tockens=asked.after,
            inner_precise=asked.precise,
            sparse_mode=asked.mode,
        )[0]
        return out if layout == "BNSD" else out.transpose(1, 2)


def _laid_out(*tensors: Tensor) -> tuple[list[Tensor], str]:
    """Tensors as they lie where heads come first in all of them, else with tokens first.

    Diffusion models project to [B, T, H * D], so of theirs nothing is copied either.
    """
    if all(tensor.is_contiguous() for tensor in tensors):
        return list(tensors), "BNSD"
    return [tensor.transpose(1, 2).contiguous() for tensor in tensors], "BSND"


def _prompt(call: Call) -> Tensor:
    """npu_prompt_flash_attention, all that a 310P has; it takes no row that sees nothing.

    Such a row sees all of it instead, and is made zeros afterwards.
    """
    drop, blind = drop_of(call), None
    if drop is not None:
        blind = drop.all(-1, keepdim=True)
        drop = drop & ~blind
    out = torch.ops.npu.npu_prompt_flash_attention(
        *(tensor.contiguous() for tensor in (call.q, call.k, call.v)),
        atten_mask=drop,
        num_heads=call.q.shape[1],
        scale_value=call.scaling,
        pre_tokens=FAR,
        next_tokens=FAR,
        input_layout="BNSD",
    )
    return out if blind is None else out.masked_fill(blind, 0)
