"""Tensors to 8 bits and back: int8_rounding.c, called with tensors, or torch where it is absent.

Rounding reads every number that a layer is given. Torch's operators read it several times, which
takes longer than a product of 8 bits saves; without a compiler they give the same numbers anyway.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsd import native
from mindsd.native import Source, address, load, threads

SOURCE = Source(Path(__file__).with_name("int8_rounding.c"), flags=("-march=native",))
DTYPES = (torch.float32, torch.bfloat16)
LEVELS, ZERO, STEPS = 127, 128, 255  # on either side of zero, and which that is; in all
LEAST_STEP = 1e-36  # of a scale: below, numbers are nothing


def why_absent() -> str | None:
    """Why there are no such kernels here, or None; the first call that finds none builds them."""
    return native.why_absent(SOURCE)


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row by its own greatest number.

    Args:
        x: [rows, width], dense, float32 or bfloat16, on a CPU.

    Returns:
        uint8 [rows, width], where `ZERO` is zero (oneDNN multiplies signed inputs without the
        processor's products of 8 bits), and float32 [rows]: what one level is worth; not a number
        where the row holds what is none or infinite.
    """
    if not isinstance(library := load(SOURCE), ctypes.CDLL):
        return _round_rows(x)
    rows, width = x.shape
    levels = x.new_empty(x.shape, dtype=torch.uint8)
    scale = x.new_empty(rows, dtype=torch.float32)
    library.round_rows(*_pointers(x, levels, scale), *_longs(rows, width), *_told(x))
    return levels, scale


def scale_rows(y: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """y * scale + bias, in its place.

    Args:
        y: [rows, width], dense, float32 or bfloat16, on a CPU.
        scale: float32 [rows].
        bias: float32 [width], or None.
    """
    if not isinstance(library := load(SOURCE), ctypes.CDLL):
        made = y.float() * scale[:, None]
        return y.copy_(made if bias is None else made + bias)
    library.scale_rows(*_pointers(y, scale, bias), *_longs(*y.shape), *_told(y))
    return y


def round_images(x: Tensor) -> tuple[Tensor, list[float], list[int]]:
    """Each image by its own least and greatest number; zero itself is met exactly.

    Args:
        x: [images, channels, height, width], channels last, float32 or bfloat16, on a CPU.

    Returns:
        uint8 like `x`; what one level is worth, and which level is zero, for each image. The first
        is not a number where the image holds what is none or infinite.
    """
    if not isinstance(library := load(SOURCE), ctypes.CDLL):
        return _round_images(x)
    levels = torch.empty_like(x, dtype=torch.uint8)
    images = len(x)
    scale, zero = torch.empty(2, images, dtype=torch.float32).unbind()
    room = torch.empty(images, threads(), 3, dtype=torch.float32)
    given = _longs(images, x[0].numel())
    library.round_images(*_pointers(x, levels, scale, zero, room), *given, *_told(x))
    return levels, scale.tolist(), list(map(int, zero.tolist()))


def _round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    wide = x.float()
    greatest = wide.abs().amax(1)
    found = greatest.isfinite()
    scale = torch.where(found, greatest / LEVELS, torch.nan)
    usable = found & (scale >= LEAST_STEP)
    levels = torch.where(usable[:, None], wide / scale[:, None], 0)
    return levels.round_().add_(ZERO).to(torch.uint8), scale


def _round_images(x: Tensor) -> tuple[Tensor, list[float], list[int]]:
    levels, scales, zeros = torch.empty_like(x, dtype=torch.uint8), [], []
    for own, into in zip(x.float(), levels, strict=True):
        low, high = float(own.amin().clamp(max=0)), float(own.amax().clamp(min=0))
        scale = (high - low) / STEPS
        if own.isfinite().all():
            scale = scale if scale >= LEAST_STEP else 1.0
            zero = round(-low / scale)
            into.copy_((own / scale).round_().add_(zero).clamp_(0, STEPS))
        else:
            scale, zero = float("nan"), 0
            into.zero_()
        scales.append(scale)
        zeros.append(zero)
    return levels, scales, zeros


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(address(own)) for own in tensors]


def _longs(*numbers: int) -> list[ctypes.c_long]:
    return list(map(ctypes.c_long, numbers))


def _told(x: Tensor) -> tuple[Any, ...]:
    return x.dtype is torch.bfloat16, threads()
