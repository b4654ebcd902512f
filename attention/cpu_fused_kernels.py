"""Norms and activations of a CPU in one pass each: cpu_fused.c, called with tensors.

C reads what it is told lies there. So each function looks at what it was given, which may be what
somebody's layer made, and leaves to torch what C cannot take; torch refuses what does not fit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mindsd import native
from mindsd.native import Source, address, load, threads

SOURCE = Source(Path(__file__).with_name("cpu_fused.c"), flags=("-march=native",))
ACTIVATIONS = {"none": 0, "silu": 1, "gelu": 2, "gelu_tanh": 3}
DTYPES = (torch.float32, torch.bfloat16)
PLAIN = {
    "none": lambda x: x,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


def why_absent() -> str | None:
    """Why there are no such kernels here, or None; the first call that finds none builds them."""
    return native.why_absent(SOURCE)


def takes(x: Tensor) -> bool:
    """Whether the kernels can read a tensor: numbers of theirs, in memory, on a CPU."""
    return x.is_cpu and x.dtype in DTYPES and x.layout is torch.strided and x.numel() > 0


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

    Raises:
        RuntimeError: the shapes do not fit; torch says which.
    """
    fits = x.dim() == 4 and x.shape[1] % groups == 0 and _fit(x.shape[1:2], weight, bias)
    if not (fits and takes(x) and _fit(x.shape[:2], add)):
        more = x if add is None else x + add[..., None, None]
        return PLAIN[activation](F.group_norm(more, groups, weight, bias, eps))
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
        weight: [width]; or [x.shape[0], width], one for each row of the batch; or None. `bias` is
            None or has the same shape.

    Raises:
        RuntimeError: the shapes do not fit; torch says which.
    """
    width, each = x.shape[-1], any(own is not None and own.dim() > 1 for own in (weight, bias))
    shape = (x.shape[0], width) if each else (width,)
    if not takes(x) or not _fit(shape, weight, bias):
        if each:
            return _each_layer_norm(x, weight, bias, eps)
        return F.layer_norm(x, (width,), weight, bias, eps)
    x = x.contiguous()
    y = torch.empty_like(x)
    rows = x.numel() // width
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
    if not takes(x) or x.shape[-1] % 2:
        half, gate = x.chunk(2, dim=-1)
        return half * PLAIN[activation](gate)
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
    """activation(x): "silu", "gelu" or "gelu_tanh"; in its place where `x` lies densely."""
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    if not takes(x) or not dense:
        return PLAIN[activation](x)
    _library().activate(
        *_pointers(x, x),
        ctypes.c_long(x.numel()),
        ACTIVATIONS[activation],
        x.dtype is torch.bfloat16,
        threads(),
    )
    return x


def _each_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Torch's, with a weight for each row of the batch."""
    found = F.layer_norm(x, x.shape[-1:], eps=eps)
    for own, put in ((weight, torch.mul), (bias, torch.add)):
        if own is not None:
            found = put(found, own.view(len(own), *(1,) * (x.dim() - 2), -1))
    return found.to(x.dtype)


def _fit(shape: Sequence[int], *tensors: Tensor | None) -> bool:
    return all(own is None or (own.shape == tuple(shape) and own.is_cpu) for own in tensors)


def _library() -> Any:
    return load(SOURCE)


def _float(own: Tensor | None) -> Tensor | None:
    return None if own is None else own.detach().float().contiguous()


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(address(own)) for own in tensors]
