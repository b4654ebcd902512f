"""Which linear layers of a model run in 8 bits on an Ascend NPU, and which are left plain.

As is usual for W8A8 (SmoothQuant, arXiv:2211.10438) only what lies in the repeated blocks is
rounded. First and last layers, embeddings and modulations cost little and steer every token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn

from mindsd.device import NPU_CHIPS, npu_chip
from mindsd.errors import RequestError

from .npu_fused import Fused
from .npu_linear import DTYPES, misfit, quantized
from .npu_offer import changed

IN_A_BLOCK = re.compile(r"(^|\.)\d+(\.|$)")
STEERS = re.compile(r"norm|emb|modulation|router|(^|\.)(shared_expert_)?gate$")


def cannot_quantize(kind: str, dtype: torch.dtype, index: int = 0) -> str | None:
    """Why no layer can run in 8 bits on a kind of device, or None."""
    if kind != "npu":
        return f"w8a8 is computed by operators of Ascend NPUs only; the model is on {kind}"
    if (chip := npu_chip(index)) not in NPU_CHIPS:
        return f"w8a8 needs one of the chips {', '.join(NPU_CHIPS)}; this is a {chip}"
    if dtype not in DTYPES:
        return f"w8a8 rounds float16 and bfloat16; the model is in {dtype}".replace("torch.", "")
    return None


def quantize(model: nn.Module, devices: Sequence[str] = ("npu",)) -> Fused:
    """Run the large linear layers in a model's blocks with weights and inputs of 8 bits.

    The plain weights stay, for the day it is undone: the rounded ones come on top, half as large.

    Args:
        model: of transformers or diffusers, in inference; the part of it that may be rounded.
        devices: kinds of devices that count as an NPU.

    Returns:
        what runs so, and in `left` every other linear layer with the reason.

    Raises:
        RequestError: the device or dtype takes no 8 bits, or the model has no layer for them.
    """
    first = next(model.parameters())
    kind = "npu" if first.device.type in devices else first.device.type
    if (reason := cannot_quantize(kind, first.dtype, first.device.index or 0)) is not None:
        raise RequestError(f"layers='w8a8': {reason}")
    fused = Fused()
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if (reason := _why_plain(name, module)) is not None:
            fused.left[name] = reason
        elif (offer := quantized(module)) is not None:
            fused.offer(name, offer)
    if not fused.served:
        reasons = "; ".join(sorted(set(fused.left.values()))) or "it has none"
        raise RequestError(f"layers='w8a8': no layer of {type(model).__name__} is taken: {reasons}")
    return fused


def _why_plain(name: str, module: nn.Linear) -> str | None:
    if not IN_A_BLOCK.search(name):
        return "stands outside of the repeated blocks"
    if STEERS.search(name):
        return "embeds, modulates or chooses"
    if type(module) is not nn.Linear:
        return f"is a {type(module).__name__}, not a plain linear layer"
    if changed(module):
        return "is run by somebody else already"
    return misfit(module)
