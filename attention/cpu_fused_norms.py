"""Normalizations in one pass on a CPU: group and layer norms, and those that a DiT modulates.

Group normalization: arXiv:1803.08494; layer normalization: arXiv:1607.06450; adaLN-Zero:
arXiv:2212.09748.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.normalization import (
    AdaLayerNormContinuous,
    AdaLayerNormZero,
    AdaLayerNormZeroSingle,
)
from torch import Tensor, nn

from .cpu_fused_kernels import DTYPES, group_norm, layer_norm, takes
from .npu_offer import TOLERANCES, Offer, changed, side_by_side

MODULATED = {AdaLayerNormZero: 6, AdaLayerNormZeroSingle: 3, AdaLayerNormContinuous: 2}


def usable(x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether the kernels take this input with these parameters: inference, one dtype, a CPU.

    Under autocast a layer's dtype is not its weight's, and the model's own way knows which.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not takes(x):
        return False
    return all(own is None or own.dtype is x.dtype for own in parameters)


def group(module: Any) -> Offer | None:
    """For a group norm of images that lie channels last."""
    if type(module) is not nn.GroupNorm or not plain(module):
        return None

    def run(original: Callable[..., Tensor], input: Tensor) -> Tensor:
        fits = input.dim() == 4 and input.shape[1] == module.num_channels
        if not fits or not usable(input, module.weight, module.bias):
            return original(input)
        return group_norm(input, module.num_groups, module.weight, module.bias, module.eps)

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        x = 1 + 2 * drawn(2, module.num_channels, 5, 4).to(module.weight)
        yield module.forward(x), run(module.forward, x)

    return Offer("group_norm", module, run, trials, TOLERANCES[module.weight.dtype])


def layer(module: Any) -> Offer | None:
    """For a layer norm over the last dimension."""
    if not is_layer_norm(module) or module.weight is None:
        return None  # without a weight, its dtype cannot be known before it runs

    def run(original: Callable[..., Tensor], input: Tensor) -> Tensor:
        fits = input.dim() > 1 and input.shape[-1:] == module.normalized_shape
        if not fits or not usable(input, module.weight, module.bias):
            return original(input)
        return layer_norm(input, module.weight, module.bias, module.eps)

    weight = module.weight
    trials = side_by_side(module, run, 1.0, 1e-3, width=weight.shape[0], like=weight)
    return Offer("layer_norm", module, run, trials, TOLERANCES[weight.dtype])


def modulated(module: Any) -> Offer | None:
    """For a layer norm whose scale and shift are made from the time: AdaLayerNormZero and such."""
    if (parts := MODULATED.get(type(module))) is None or getattr(module, "emb", None) is not None:
        return None
    if not is_layer_norm(module.norm) or module.linear.weight.dtype not in DTYPES:
        return None

    def run(original: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = [own for own in (*args, *kwargs.values()) if own is not None]
        fits = x.dim() == 3 and x.shape[-1:] == module.norm.normalized_shape
        each = len(given) == 1 and given[0].shape[:-1] == x.shape[:1]  # no image borrows another's
        if not fits or not each or not usable(x) or changed(module.norm):
            return original(x, *args, **kwargs)
        made = module.linear(module.silu(given[0]).to(x.dtype)).chunk(parts, dim=1)
        if parts == 2:
            return modulate(module.norm, x, scale=made[0], shift=made[1])
        return modulate(module.norm, x, scale=made[1], shift=made[0]), *made[2:]

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        weight, name = module.linear.weight, "conditioning_embedding" if parts == 2 else "emb"
        x, given = drawn(2, 5, weight.shape[0] // parts), drawn(2, weight.shape[1])
        own = x.to(weight.dtype), {name: given.to(weight.dtype)}
        expected, found = module.forward(own[0], **own[1]), run(module.forward, own[0], **own[1])
        yield (expected, found) if parts == 2 else (expected[0], found[0])

    return Offer("modulated", module, run, trials, TOLERANCES[module.linear.weight.dtype])


def modulate(norm: nn.LayerNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """norm(x) * (1 + scale) + shift: x [images, tokens, width], scale and shift [images, width]."""
    weight, bias = 1 + scale.float(), shift.float()
    if norm.bias is not None:
        bias = bias + weight * norm.bias
    if norm.weight is not None:
        weight = weight * norm.weight
    return layer_norm(x, weight, bias, norm.eps)


def is_layer_norm(module: Any) -> bool:
    """Whether it is torch's layer norm over one dimension, as it was made."""
    return type(module) is nn.LayerNorm and len(module.normalized_shape) == 1 and plain(module)


def plain(module: Any) -> bool:
    """Whether a module's weight is of a dtype that the kernels take, and nobody wraps it."""
    weight = module.weight
    return not changed(module) and (weight is None or weight.dtype in DTYPES)


def drawn(*shape: int) -> Tensor:
    """Random numbers for a trial, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), device="cpu")
