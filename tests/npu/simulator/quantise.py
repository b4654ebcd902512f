"""Weights and activations in 8 bits: quantising per token, and the matmul of both."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import Arguments
from .checks import Checks
from .simulation import Simulation

# The numbers that an `int?` argument holds where the caller gave a torch dtype.
CODES = {1: torch.int8, 3: torch.int32, 5: torch.float16, 15: torch.bfloat16}


def dynamic_quant(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Tensor, Tensor]:
    """int8 values and one float32 scale per token: the row's largest magnitude / 127."""
    x, smooth = call.input, call.smooth_scales
    halves = (torch.float16, torch.bfloat16)
    checks.need(x.dtype in halves, f"input is {x.dtype}, expected one of {halves}")
    checks.need(x.dim() >= 2, f"input has {x.dim()} axes, needs at least 2")
    checks.known(call.quant_mode == "pertoken", f"quant_mode {call.quant_mode!r}")
    checks.known(call.dst_type in (None, 1), f"dst_type {call.dst_type}")
    wide = x.float()
    if smooth is not None:
        good = smooth.shape == x.shape[-1:] and smooth.dtype == x.dtype
        checks.need(good, "smooth_scales must be [last axis] in input's dtype")
        wide = wide * smooth.float()
    scale = wide.abs().amax(-1) / 127.0
    steps = wide / torch.where(scale == 0, 1.0, scale).unsqueeze(-1)
    return steps.round().clamp(-128, 127).to(torch.int8), scale


def quant_matmul(call: Arguments, checks: Checks, simulation: Simulation) -> Tensor:
    """x1 @ x2 in int32, times the scales, plus the bias.

    output_dtype None means int8 out, which is what a caller rarely wants.
    """
    x1, x2, scale, token = call.x1, call.x2, call.scale, call.pertoken_scale
    checks.need(x1.dtype == x2.dtype == torch.int8, f"x1 is {x1.dtype}, x2 {x2.dtype}, not int8")
    checks.need(x1.dim() >= 2 and x2.dim() >= 2, "x1 and x2 need at least 2 axes")
    inner = x1.shape[-1], x2.shape[-2]
    checks.need(inner[0] == inner[1], f"x1 ends in {inner[0]}, x2 needs {inner[1]}")
    kinds = (torch.float32, torch.bfloat16, torch.int64)
    checks.need(scale.dtype in kinds, f"scale is {scale.dtype}, expected one of {kinds}")
    checks.known(scale.dtype != torch.int64, "scales packed as int64")
    checks.need(scale.shape in ((x2.shape[-1],), (1,)), f"scale is {tuple(scale.shape)}")
    total = x1.to(torch.int32) @ x2.to(torch.int32)
    bias = call.bias
    if bias is not None and bias.dtype == torch.int32:
        total = total + bias
    out = total.float() * scale.float()
    if token is not None:
        good = token.dtype == torch.float32 and token.shape == (x1.shape[-2],)
        checks.need(good, f"pertoken_scale must be float32 [{x1.shape[-2]}]")
        out = out * token.unsqueeze(-1)
    if bias is not None and bias.dtype != torch.int32:
        out = out + bias.float()
    return _as_asked(call, checks, out)


def _as_asked(call: Arguments, checks: Checks, out: Tensor) -> Tensor:
    code = 1 if call.output_dtype is None else call.output_dtype
    checks.need(code in CODES, f"output_dtype {code} is none of {list(CODES.values())}")
    dtype = CODES[code]
    checks.need(dtype != torch.int32, "output_dtype int32 needs no scale")
    if dtype == torch.int8:
        checks.need(call.pertoken_scale is None, "int8 out takes no pertoken_scale")
        offset = 0.0 if call.offset is None else call.offset.float()
        return (out + offset).round().clamp(-128, 127).to(torch.int8)
    checks.need(call.offset is None, f"offset is for int8 out, not {dtype}")
    if call.pertoken_scale is None:
        good = dtype == torch.bfloat16 or call.scale.dtype == torch.int64
        checks.need(good, f"{dtype} out with a {call.scale.dtype} scale needs a pertoken_scale")
    return out.to(dtype)
