"""Activations after a projection in one pass on a CPU: GEGLU, SwiGLU and GELU of diffusers.

arXiv:2002.05202 and arXiv:1606.08415; GELU is exact (by erf) where the model's is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers.models.activations import GEGLU, GELU, SwiGLU
from torch import Tensor, nn

from mindsd.prepack import After, followed

from .cpu_fused_kernels import DTYPES, activate_, gated
from .cpu_fused_norms import usable
from .npu_offer import TOLERANCES, Offer, side_by_side

GATES = {GEGLU: "gelu", SwiGLU: "silu"}
EXACT = After("gelu", "none")
APPROXIMATIONS = {"none": "gelu", "tanh": "gelu_tanh"}


def gate(module: Any) -> Offer | None:
    """For half * activation(other half), of one projection."""
    if (activation := GATES.get(type(module))) is None or not _projects(module):
        return None

    def run(
        original: Callable[..., Tensor], hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if args or kwargs or not usable(hidden_states):
            return original(hidden_states, *args, **kwargs)
        return gated(module.proj(hidden_states), activation)

    return _offer(type(module).__name__.lower(), module, run)


def gelu(module: Any) -> Offer | None:
    """For GELU of a projection: in the product itself, or in its place."""
    if type(module) is not GELU or module.approximate not in APPROXIMATIONS:
        return None
    if not _projects(module):
        return None
    activation = APPROXIMATIONS[module.approximate]

    def run(original: Callable[..., Tensor], hidden_states: Tensor) -> Tensor:
        kept = module.proj._forward_hooks  # somebody may keep what it gives
        if kept or not usable(hidden_states):
            return original(hidden_states)
        exact = followed(module.proj, hidden_states, EXACT) if activation == "gelu" else None
        return activate_(module.proj(hidden_states), activation) if exact is None else exact

    return _offer(activation, module, run)


def _projects(module: Any) -> bool:
    return isinstance(module.proj, nn.Linear) and module.proj.weight.dtype in DTYPES


def _offer(name: str, module: Any, run: Callable[..., Tensor]) -> Offer:
    weight = module.proj.weight
    trials = side_by_side(module, run, 1.0, width=weight.shape[1], like=weight)
    return Offer(name, module, run, trials, TOLERANCES[weight.dtype])
