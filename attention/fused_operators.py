"""Norms, gates and rotations in one operator each: an NPU's own, or ours in Triton on a GPU.

Which one answers is said by the device of the tensors. Modules ask for them through offers
(npu_offer.py), which are tried before they are trusted.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

CUDA = ("cuda",)  # kinds of devices that Triton answers for
MOST_WIDTH = 16384  # numbers of a row that one program norms
GATE = 1024  # numbers of a program


def why_absent(kind: str) -> str | None:
    """Why there are no operators for a kind of device, or None; an NPU's are asked one by one."""
    if kind in CUDA and importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension (arXiv:1910.07467)."""
    if x.device.type not in CUDA:
        return torch.ops.npu.npu_rms_norm(x, weight, eps)[0]
    return _normed(x, None, weight, eps)[0]


def add_rms_norm(x: Tensor, other: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of x + other, and the sum."""
    if x.device.type not in CUDA:
        normed, _, summed = torch.ops.npu.npu_add_rms_norm(x, other, weight, eps)
        return normed, summed
    return _normed(x, other, weight, eps)


def swiglu(both: Tensor) -> Tensor:
    """silu(first half) * second half, of the last dimension (arXiv:2002.05202)."""
    if both.device.type not in CUDA:
        return torch.ops.npu.npu_swiglu(both, -1)
    both = both.contiguous()
    width = both.shape[-1] // 2
    out = both.new_empty(*both.shape[:-1], width)
    grid = (out.numel() // width, -(-width // GATE))
    _kernels().gate_rows[grid](both, out, width, WIDE=GATE)
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor, mode: str) -> Tensor:
    """x * cos + turned(x) * sin (arXiv:2104.09864).

    Args:
        x: [B, H, T, D].
        cos, sin: [B | 1, 1, T, D].
        mode: "half" (halves are turned) or "interleave" (neighbours).
    """
    if x.device.type not in CUDA:
        return torch.ops.npu.npu_rotary_mul(x, cos, sin, mode)
    x = x if x.stride(3) == 1 else x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    batch, heads, tokens, dim = x.shape
    strides = *x.stride()[:3], *out.stride()[:3], cos.stride(0) * (cos.shape[0] > 1), cos.stride(2)
    how = {"HALF": dim // 2, "WIDE": _power(dim // 2), "PAIRS": mode == "interleave"}
    kernel = _kernels().rotate_rows
    kernel[(batch * heads * tokens,)](x, cos, sin, out, *strides, heads, tokens, **how)
    return out


def _normed(x: Tensor, other: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    width = x.shape[-1]
    if width > MOST_WIDTH:
        raise ValueError(f"rows of {width} numbers are too long")
    added = x if other is None else other.contiguous()
    out = torch.empty_like(x)
    summed = x if other is None else torch.empty_like(x)
    how = {"WIDE": _power(width), "ADD": other is not None}
    grid = (x.numel() // width,)
    _kernels().norm_rows[grid](x, added, weight, out, summed, width, eps, **how)
    return out, summed


def _power(number: int) -> int:
    return 1 << (number - 1).bit_length()


@lru_cache(maxsize=1)
def _kernels() -> Any:
    from . import triton_operators_kernels as own  # heavy, and optional

    return own
