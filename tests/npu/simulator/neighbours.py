"""The fused operators around attention: norms, rotary embedding, gated activations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .arguments import Arguments
from .checks import Checks
from .simulation import Simulation

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def rms_norm(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Tensor, Tensor]:
    """x / rms(x) * gamma and 1 / rms(x); gamma may span several last dimensions."""
    x, gamma = call.input, call.gamma
    checks.need(x.dtype in FLOATS, f"input is {x.dtype}, expected one of {FLOATS}")
    return _normalised(checks, x, gamma, call.epsilon)


def add_rms_norm(
    call: Arguments, checks: Checks, simulation: Simulation
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of x1 + x2, 1 / rms, and the sum itself."""
    x1, x2 = call.x1, call.x2
    checks.need(x1.shape == x2.shape, f"x1 is {tuple(x1.shape)}, x2 {tuple(x2.shape)}")
    checks.need(x1.dtype == x2.dtype and x1.dtype in FLOATS, f"x1 {x1.dtype}, x2 {x2.dtype}")
    total = x1 + x2
    out, inverse = _normalised(checks, total, call.gamma, call.epsilon)
    return out, inverse, total


def _normalised(checks: Checks, x: Tensor, gamma: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    last = x.dim() - gamma.dim()
    good = last >= 0 and x.shape[last:] == gamma.shape
    checks.need(good, f"gamma {tuple(gamma.shape)} is not the end of input {tuple(x.shape)}")
    wide = x.float()
    over = tuple(range(last, x.dim()))
    inverse = torch.rsqrt(wide.pow(2).mean(over, keepdim=True) + eps)
    return (wide * inverse * gamma.float()).to(x.dtype), inverse


def rotary_mul(call: Arguments, checks: Checks, simulation: Simulation) -> Tensor:
    """x * cos + rotated(x) * sin; "half" rotates the halves, "interleave" the pairs."""
    x, cos, sin, mode = call.input, call.r1, call.r2, call.rotary_mode
    checks.need(mode in ("half", "interleave"), f"rotary_mode {mode!r}")
    checks.need(x.dtype in FLOATS, f"input is {x.dtype}, expected one of {FLOATS}")
    checks.need(x.dim() in (3, 4) and cos.dim() == x.dim(), "input, r1 and r2 need 3 or 4 axes")
    checks.need(cos.shape == sin.shape, "r1 and r2 differ in shape")
    dim = x.shape[-1]
    checks.need(dim % 2 == 0 and dim < 896, f"head size {dim} must be even, below 896")
    checks.need(cos.shape[-1] == dim, f"r1 ends in {cos.shape[-1]}, input in {dim}")
    broad = all(a in (1, b) for a, b in zip(cos.shape, x.shape, strict=True))
    checks.need(broad, f"r1 {tuple(cos.shape)} does not broadcast to {tuple(x.shape)}")
    if mode == "interleave":
        _check_interleave(checks, x, cos)
    wide = x.float()
    return (wide * cos.float() + rotated(wide, mode) * sin.float()).to(x.dtype)


def _check_interleave(checks: Checks, x: Tensor, cos: Tensor) -> None:
    """r1 has one axis of tokens: 11SD, 1S1D, S11D or T1D."""
    lead = cos.shape[:-1]
    checks.need(
        sum(size == 1 for size in lead) >= len(lead) - 1,
        f"interleave takes r1 as 11SD, 1S1D, S11D or T1D, got {tuple(cos.shape)}",
    )
    if x.dim() == 4:
        token = next((i for i, size in enumerate(lead) if size > 1), 1)
        others = [size for i, size in enumerate(x.shape[:3]) if i != token]
        checks.need(others[0] * others[1] < 1000, f"B * N = {others[0] * others[1]}, needs < 1000")


def rotated(x: Tensor, mode: str) -> Tensor:
    """(-second, first) of the halves, or of every pair."""
    if mode == "half":
        first, second = x.chunk(2, -1)
        return torch.cat((-second, first), -1)
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def swiglu(call: Arguments, checks: Checks, simulation: Simulation) -> Tensor:
    """silu(first half) * second half."""
    gate, value = _halves(call, checks)
    return (F.silu(gate.float()) * value.float()).to(gate.dtype)


def geglu(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Tensor, Tensor]:
    """value * gelu(gate), and gelu(gate). The gate is the second half, or with activate_left the
    first; approximate 1, the default, is the tanh form, 0 the exact one."""
    first, second = _halves(call, checks)
    value, gate = (second, first) if call.activate_left else (first, second)
    checks.need(call.approximate in (0, 1), f"approximate {call.approximate} is not 0 or 1")
    gelu = F.gelu(gate.float(), approximate="tanh" if call.approximate else "none")
    return (value.float() * gelu).to(gate.dtype), gelu.to(gate.dtype)


def fast_gelu(call: Arguments, checks: Checks, simulation: Simulation) -> Tensor:
    """x * sigmoid(1.702 x)."""
    x = call.input
    checks.need(x.dtype in FLOATS, f"input is {x.dtype}, expected one of {FLOATS}")
    return (x.float() * torch.sigmoid(1.702 * x.float())).to(x.dtype)


def _halves(call: Arguments, checks: Checks) -> tuple[Tensor, Tensor]:
    x, dim = call.input, call.dim
    checks.need(x.dtype in FLOATS, f"input is {x.dtype}, expected one of {FLOATS}")
    checks.need(x.shape[dim] % 2 == 0, f"axis {dim} of size {x.shape[dim]} has no halves")
    first, second = x.chunk(2, dim)
    return first, second
