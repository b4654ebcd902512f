"""Norms and activations of a CPU in one pass each: cpu_fused.c, called with tensors."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsd.native import Source, address, load, threads, why_not

SOURCE = Source(Path(__file__).with_name("cpu_fused.c"), flags=("-march=native",))
ACTIVATIONS = {"none": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3}
DTYPES = (torch.float32, torch.bfloat16)


def why_absent() -> str | None:
    """Why there are no such kernels here, or None; the first call that finds none builds them."""
    if reason := why_not(SOURCE):
        return reason
    found = load(SOURCE)
    return found if isinstance(found, str) else None


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str = "none",
    add: Tensor | None = None,
) -> Tensor:
    """activation(group_norm(x + add)), where activation is "none" or "silu".

    Args:
        x: [images, channels, height, width], float32 or bfloat16; read channels last.
        weight: [channels] or None; `bias` too.
        add: [images, channels] or None.

    Returns:
        Like `x`, channels last.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    images, width, height, breadth = x.shape
    count = threads()
    room = torch.empty(count * 2 * width + width, dtype=torch.float64)
    more, gain, shift = _float(add), _float(weight), _float(bias)
    _library().group_norm(
        *_pointers(x, y, more, gain, shift, room),
        *map(ctypes.c_long, (images, height * breadth, width, groups)),
        ctypes.c_float(eps),
        ACTIVATIONS[activation],
        x.dtype is torch.bfloat16,
        count,
    )
    return y


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """layer_norm(x) * weight + bias over the last dimension.

    Args:
        x: [..., width], float32 or bfloat16.
        weight: [width]; or [x.shape[0], width], one for each row of the batch; or None. So `bias`.
    """
    x = x.contiguous()
    y = torch.empty_like(x)
    width = x.shape[-1]
    rows = x.numel() // width
    each = any(own is not None and own.dim() > 1 for own in (weight, bias))
    gain, shift = _float(weight), _float(bias)
    _library().layer_norm(
        *_pointers(x, y, gain, shift),
        *map(ctypes.c_long, (rows, width, rows // x.shape[0] if each else 0)),
        ctypes.c_float(eps),
        x.dtype is torch.bfloat16,
        threads(),
    )
    return y


def gated(x: Tensor, activation: str) -> Tensor:
    """first half * activation(second half) of the last dimension; "gelu" (by erf) or "silu"."""
    x = x.contiguous()
    width = x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], width)
    _library().gated(
        *_pointers(x, y),
        *map(ctypes.c_long, (x.numel() // (2 * width), width)),
        ACTIVATIONS[activation],
        x.dtype is torch.bfloat16,
        threads(),
    )
    return y


def activate_(x: Tensor, activation: str) -> Tensor:
    """activation(x) in its place: "silu", "gelu" or "gelu_tanh"; `x` lies densely."""
    assert x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    _library().activate(
        *_pointers(x, x),
        ctypes.c_long(x.numel()),
        ACTIVATIONS[activation],
        x.dtype is torch.bfloat16,
        threads(),
    )
    return x


def _library() -> Any:
    return load(SOURCE)


def _float(own: Tensor | None) -> Tensor | None:
    return None if own is None else own.detach().float().contiguous()


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(address(own)) for own in tensors]
