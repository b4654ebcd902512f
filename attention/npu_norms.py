"""RMSNorm in one operator, alone and with the addition before it (arXiv:1910.07467)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.wrap import wrap

from .fused_operators import add_rms_norm, rms_norm
from .npu_offer import TOLERANCES, Offer, fits, named, side_by_side

NAMES = re.compile(r"(RMS_?Norm|T5LayerNorm)$", re.IGNORECASE)
EPSILONS = ("variance_epsilon", "eps", "epsilon")
PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")


def norm(module: Any) -> Offer | None:
    """For a module that is named like an RMSNorm: x / rms(x) * weight.

    Those that scale by 1 + weight (Gemma) differ, and stay as they are.
    """
    if not NAMES.search(type(module).__name__) or (eps := _epsilon(module)) is None:
        return None
    weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
    if not isinstance(weight, Tensor) or weight.dim() != 1 or bias is not None:
        return None
    if weight.dtype not in TOLERANCES:
        return None

    def run(original: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not fits(x, module.weight):
            return original(x, *args, **kwargs)
        return rms_norm(x, module.weight, eps)

    # The small ones tell whether epsilon is added, and where.
    trials = side_by_side(module, run, 1.0, 1e-3, width=weight.shape[0], like=weight)
    return Offer(named("rms_norm", weight), module, run, trials, TOLERANCES[weight.dtype])


def layer(module: Any) -> Offer | None:
    """For a decoder layer: the addition after its attention and the norm that follows.

    x -> norm -> attention -> [+ x -> norm] -> mlp -> + what came out of [+ x]
    """
    parts = [getattr(module, name, None) for name in PARTS]
    if not all(isinstance(part, nn.Module) for part in parts):
        return None
    after = module.post_attention_layernorm
    if norm(after) is None or (eps := _epsilon(after)) is None:
        return None

    def run(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        x = args[0] if len(args) == 1 else None
        if x is None or not fits(x, after.weight):
            return original(*args, **kwargs)
        attended, _ = module.self_attn(hidden_states=module.input_layernorm(x), **kwargs)
        normed, summed = add_rms_norm(attended, x, after.weight, eps)
        return summed + module.mlp(normed)

    trials = _without_attention(module, run, after.weight)
    return Offer(
        named("add_rms_norm", after.weight), module, run, trials, TOLERANCES[after.weight.dtype]
    )


def _without_attention(
    module: Any, run: Callable[..., Tensor], weight: Tensor
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Trials in which attention halves its input, and is given the same by both."""

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        x, mask, cos, sin = (
            torch.randn(1, 5, weight.shape[0], generator=generator, device="cpu")
            .to(weight.device, weight.dtype)
            .mul_(scale)
            for scale in (1, 2, 3, 4)
        )
        given: list[dict[str, Any]] = []

        def halve(original: Any, hidden_states: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
            # What a layer names without being told is None or False.
            given.append(
                {name: own for name, own in kwargs.items() if own is not None and own is not False}
            )
            return hidden_states / 2, None

        told = {"attention_mask": mask, "position_embeddings": (cos, sin)}
        with wrap(module.self_attn, "forward", halve):
            pair = module.forward(x, **told), run(module.forward, x, **told)
        if any(given[0].get(name) is not told[name] for name in told) or given[0] != given[1]:
            raise ValueError("its attention is given something else")
        yield pair

    return trials


def _epsilon(module: Any) -> float | None:
    found = [getattr(module, name, None) for name in EPSILONS]
    return next((eps for eps in found if isinstance(eps, float)), None)
