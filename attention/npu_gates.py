"""Gated activations in one operator: SwiGLU of language models, GEGLU of diffusers
(arXiv:2002.05202).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused_operators
from .npu_offer import TOLERANCES, Offer, changed, fits, named, side_by_side

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def swiglu(module: Any) -> Offer | None:
    """For down(silu(gate(x)) * up(x)).

    Gate and up become one product, for the operator wants both halves side by side. Their weights
    are moved to lie so, and stay the parameters they were: views of one matrix.
    """
    linears = [getattr(module, name, None) for name in PROJECTIONS]
    if any(type(own) is not nn.Linear for own in linears) or not hasattr(module, "act_fn"):
        return None
    gate, up, _ = linears
    if gate is None or up is None or gate.weight.shape != up.weight.shape:
        return None
    if gate.weight.dtype not in TOLERANCES:
        return None
    if (gate.bias is None) is not (up.bias is None) or changed(gate) or changed(up):
        return None
    joined = _Joined(gate, up)

    def run(original: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        untouched = module.gate_proj is gate and module.up_proj is up and joined.there
        if args or kwargs or not untouched or not fits(x, gate.weight):
            return original(x, *args, **kwargs)
        both = F.linear(x, joined.weight, joined.bias)
        return module.down_proj(fused_operators.swiglu(both))

    weight = gate.weight
    trials = side_by_side(module, run, 1.0, width=weight.shape[1], like=weight)
    return Offer(
        named("swiglu", weight), module, run, trials, TOLERANCES[weight.dtype], joined.part
    )


class _Joined:
    """Two linear layers whose parameters are the halves of one.

    Attributes:
        weight: [2 * out, in].
        bias: [2 * out] or None.
    """

    def __init__(self, *layers: nn.Linear):
        self._layers = layers
        self.weight = self._join("weight")
        self.bias = None if layers[0].bias is None else self._join("bias")

    @property
    def there(self) -> bool:
        """Whether the layers still have these parameters, and nobody wraps them."""
        half = self.weight.shape[0] // 2
        found = [own.weight.data_ptr() for own in self._layers]
        lie = [self.weight.data_ptr(), self.weight[half:].data_ptr()]
        return found == lie and not any(changed(own) for own in self._layers)

    def part(self) -> None:
        """Each layer has memory of its own again."""
        if self.there:
            for own in self._layers:
                for parameter in own.parameters():
                    parameter.data = parameter.data.clone()

    @torch.no_grad()
    def _join(self, name: str) -> Tensor:
        own = [getattr(layer, name) for layer in self._layers]
        joined = torch.cat([parameter.data for parameter in own])
        for parameter, half in zip(own, joined.chunk(2), strict=True):
            parameter.data = half
        return joined


def geglu(module: Any) -> Offer | None:
    """For diffusers' GEGLU: half * gelu(other half), of one projection.

    It is exact, as everywhere else; diffusers' own forward approximates it by tanh on an NPU.
    """
    projection = getattr(module, "proj", None)
    if type(module).__name__ != "GEGLU" or not isinstance(projection, nn.Linear):
        return None
    if not hasattr(module, "gelu"):
        return None
    if projection.weight.dtype not in TOLERANCES:
        return None

    def run(original: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weight = getattr(module.proj, "weight", None)
        if args or kwargs or weight is None or not fits(x, weight):
            return original(x, *args, **kwargs)
        return torch.ops.npu.npu_geglu(module.proj(x), -1, approximate=0)[0]

    def formula(x: Tensor) -> Tensor:
        half, gate = module.proj(x).chunk(2, dim=-1)
        return half * module.gelu(gate)

    weight = projection.weight
    trials = side_by_side(module, run, 1.0, width=weight.shape[1], like=weight, formula=formula)
    return Offer("npu_geglu", module, run, trials, TOLERANCES[weight.dtype])
