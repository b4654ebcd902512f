"""Does a backend compute what it claims to, here? A few small calls against the reference."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .contract import Backend, Call, Varlen
from .cpu import Reference

# Wide enough for TF32 and half precision; a dropped argument is wrong by 0.1 and more.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 5e-3}
HALF_TOLERANCE = 3e-2


def self_test(backend: Backend, device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with a backend for tensors of this device and dtype, or None.

    Calls that it refuses are not held against it.
    """
    for name, call in getattr(backend, "trials", calls)(device, dtype).items():
        if backend.refuses(call) is not None:
            continue
        try:
            got = backend.run(call)
        except Exception as error:  # whatever a foreign kernel raises: it cannot be used here
            return f"{name}: {type(error).__name__}: {error}"
        wrong = _difference(call, got)
        if wrong is not None:
            return f"{name}: {wrong}"
    return None


def calls(device: torch.device, dtype: torch.dtype) -> dict[str, Call]:
    """One small call for each thing that a backend could get wrong."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cpu").to(device, dtype)

    plain = Call(tensor(2, 4, 24, 16), tensor(2, 4, 24, 16), tensor(2, 4, 24, 16))
    longer = replace(plain, k=tensor(2, 4, 40, 16), v=tensor(2, 4, 40, 16))
    grouped = replace(plain, k=tensor(2, 2, 24, 16), v=tensor(2, 2, 24, 16))
    bias = tensor(2, 1, 24, 24)
    keep = bias > -1
    blind = keep.clone()
    blind[0, :, 3] = False
    packed = Call(tensor(1, 4, 24, 16), tensor(1, 4, 40, 16), tensor(1, 4, 40, 16))
    return {
        "plain": plain,
        "scale": replace(plain, scale=0.7),
        "cross": longer,
        "bool mask": replace(plain, mask=keep),
        "additive bias": replace(plain, mask=bias),
        "row without a key": replace(plain, mask=blind),
        "causal": replace(plain, causal=True),
        "causal cross": replace(longer, causal=True),
        "window": replace(plain, window=(5, 2)),
        "grouped heads": grouped,
        "packed": replace(packed, varlen=Varlen((0, 10, 24), (0, 16, 40)), causal=True),
    }


def _difference(call: Call, got: Tensor) -> str | None:
    precise = {name: _precise(getattr(call, name)) for name in ("q", "k", "v", "mask")}
    want = Reference().run(replace(call, **precise))
    if got.shape != want.shape or got.dtype != call.q.dtype:
        return f"gave {got.dtype} {tuple(got.shape)}, not {call.q.dtype} {tuple(want.shape)}"
    error = (got.cpu().double() - want).abs().max().item()
    tolerance = TOLERANCE.get(call.q.dtype, HALF_TOLERANCE)
    # Written so that NaN is a difference too.
    return None if error <= tolerance else f"off by {error:.2g}, {tolerance:.2g} is allowed"


def _precise(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or tensor.dtype == torch.bool:
        return tensor if tensor is None else tensor.cpu()
    return tensor.cpu().double()
