"""Linear layers in 8 bits: weights once by output channel, inputs anew by token (W8A8 dynamic).

The layout follows npu_dynamic_quant and npu_quant_matmul of Ascend's op-plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .npu_offer import Offer, changed, fits, side_by_side

TOLERANCE = 5e-2  # of the largest number; 8 bits of both sides are off by about 1e-2
DTYPES = (torch.float16, torch.bfloat16)
LEVELS = 127
LEAST, MOST = 512, 65535  # of a side: below, rounding costs more than it saves; above, undocumented


def quantized(module: Any) -> Offer | None:
    """For a plain linear layer that is large enough. The weights stay, for the day it is undone."""
    if type(module) is not nn.Linear or changed(module) or module.weight.dtype not in DTYPES:
        return None
    if misfit(module) is not None:
        return None
    layer = _Quantized(module)
    trials = side_by_side(module, layer, 1.0, width=module.in_features, like=module.weight)
    return Offer("npu_quant_matmul", module, layer, trials, TOLERANCE)


def misfit(module: nn.Linear) -> str | None:
    """Why a layer's size is none for 8 bits, or None."""
    sides = tuple(module.weight.shape)
    if min(sides) < LEAST or max(sides) > MOST:
        return f"has a side under {LEAST} or over {MOST}"
    return None


class _Quantized:
    """In the place of one layer's forward."""

    @torch.no_grad()
    def __init__(self, module: Any):
        self._module, self._weight = module, module.weight
        wide = module.weight.detach().float()
        self._scale = wide.abs().amax(1).clamp(min=1e-12) / LEVELS  # [out]
        rounded = (wide / self._scale[:, None]).round_().to(torch.int8)
        self._rounded = rounded.t().contiguous()  # [in, out]
        self._bias = None if module.bias is None else module.bias.detach().float()
        self._state = _state(module)

    def __call__(self, original: Callable[..., Tensor], x: Tensor) -> Tensor:
        same = self._module.weight is self._weight and _state(self._module) == self._state
        if not same or not fits(x, self._weight):  # somebody changed it: ours is of the past
            return original(x)
        tokens, scales = torch.ops.npu.npu_dynamic_quant(x.reshape(-1, x.shape[-1]))
        out = torch.ops.npu.npu_quant_matmul(
            tokens,
            self._rounded,
            self._scale,
            pertoken_scale=scales.flatten(),
            bias=self._bias,
            output_dtype=x.dtype,
        )
        return out.view(*x.shape[:-1], -1)


def _state(module: Any) -> list[tuple[int, int | None]]:
    """Where parameters lie and how often they were changed; inference mode keeps no count."""
    return [
        (own.data_ptr(), None if own.is_inference() else own._version)
        for own in module.parameters()
    ]
