"""Rotary embeddings in one operator (arXiv:2104.09864).

transformers' attention calls a function of its own file by a global name. Its class and its file
belong to everybody, so both stay: the one module that is served runs the same code, with this one
name meaning something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from .fused_operators import rotate
from .npu_offer import TOLERANCES, Offer, changed, named

NAME = "apply_rotary_pos_emb"
HALF, PAIRS = "half", "interleave"  # what is turned together: halves, or neighbours
MOST_DIM, MOST_HEADS = 896, 1000


def cannot_rotate(x: Tensor, cos: Tensor, mode: str) -> str | None:
    """Why `rotate` is not documented for these tensors, or None."""
    if x.dtype not in TOLERANCES or cos.dtype is not x.dtype:
        return f"it turns float32, float16 and bfloat16 by the same, got {x.dtype}, {cos.dtype}"
    batch, heads, _, dim = x.shape
    if dim % 2 or dim >= MOST_DIM or cos.shape[-1] != dim:
        return f"head_dim must be even, below {MOST_DIM}, and cos's; got {dim}, {cos.shape[-1]}"
    if mode == HALF and max(batch, heads) >= MOST_HEADS:
        return f"batch and heads must be below {MOST_HEADS}, got {batch}, {heads}"
    if mode == PAIRS and (cos.shape[0] > 1 or batch * heads >= MOST_HEADS):
        return f"pairs turn with one batch of cos and below {MOST_HEADS} heads, got {batch * heads}"
    return None


def rotary(module: Any) -> Offer | None:
    """For an attention module of transformers that calls `apply_rotary_pos_emb`."""
    forward: Any = type(module).forward
    if not isinstance(forward, FunctionType) or NAME not in forward.__code__.co_names:
        return None
    plain = forward.__globals__.get(NAME)
    parameters = list(module.parameters())
    if plain is None or not parameters or changed(module) or hasattr(forward, "__wrapped__"):
        return None
    if parameters[0].dtype not in TOLERANCES:
        return None
    mode = next((mode for mode in (HALF, PAIRS) if _turns(plain, mode)), None)
    if mode is None:
        return None
    fused = _fused(plain, mode)
    own = {**forward.__globals__, NAME: fused}
    code = (forward.__code__, own, forward.__name__, forward.__defaults__, forward.__closure__)
    again = FunctionType(*code)
    again.__kwdefaults__ = forward.__kwdefaults__

    def run(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return (
            original(*args, **kwargs) if torch.is_grad_enabled() else again(module, *args, **kwargs)
        )

    like = parameters[0]
    trials = _trials(plain, fused, like)
    return Offer(named("rotary_mul", like), module, run, trials, TOLERANCES[like.dtype])


def _fused(plain: Callable[..., Any], mode: str) -> Callable[..., tuple[Tensor, Tensor]]:
    def apply(q: Any, k: Any, cos: Any, sin: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or q.dim() != 4 or cos.dim() != 3:
            return plain(q, k, cos, sin, *args, **kwargs)
        wide = cos[:, None], sin[:, None]
        if any(cannot_rotate(x, wide[0], mode) for x in (q, k)):
            return plain(q, k, cos, sin)
        return rotate(q, *wide, mode), rotate(k, *wide, mode)

    return apply


def _drawn(like: Tensor) -> tuple[Tensor, ...]:
    """q, k [1, 2, 5, 16], cos, sin [1, 5, 16]; no two numbers of an angle are alike."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 2, 5, 16), (1, 2, 5, 16), (1, 5, 16), (1, 5, 16)
    drawn = [torch.rand(shape, generator=generator, device="cpu") * 2 - 1 for shape in shapes]
    return tuple(own.to(like.device, like.dtype) for own in drawn)


def _turns(plain: Callable[..., Any], mode: str) -> bool:
    """Whether a function is the formula with halves or pairs turned; on the CPU."""
    q, k, cos, sin = _drawn(torch.zeros(()))
    try:
        found = plain(q, k, cos, sin)
    except Exception:  # it wants other arguments, so it is another function
        return False
    expected = [x * cos[:, None] + _turned(x, mode) * sin[:, None] for x in (q, k)]
    return all(map(torch.allclose, found, expected))


def _turned(x: Tensor, mode: str) -> Tensor:
    if mode == HALF:
        first, second = x.chunk(2, -1)
        return torch.cat((-second, first), -1)
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def _trials(
    plain: Callable[..., Any], fused: Callable[..., Any], like: Tensor
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        drawn = _drawn(like)
        yield from zip(plain(*drawn), fused(*drawn), strict=True)

    return trials
