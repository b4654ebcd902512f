"""What a word of `layers` lays below everything else on an image model: blocks that are compiled.

Weights channels last were tried on an H200, and gave an SDXL step nothing (56.4 and 57.0 ms); nor
did ResNet blocks that are compiled (51.0 ms with transformer blocks alone, 51.6 with both, for a
minute of compiling more).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import nn

from mindsd.errors import RequestError

from .compiled import Compiled, blocks, compile_blocks
from .compiled_kind import ROUNDED
from .float8 import ALIGNED, LEAST, takes_float8, to_float8

COMPILED = ("compiled", "fp8")
BACKEND = "inductor"  # of torch.compile


def cannot_compile(kind: str, dtype: torch.dtype) -> str | None:
    """Why no model is compiled on a kind of device, or None; a compiler may still be missing."""
    if kind in ("cuda", "cpu"):
        return None
    return f"blocks are compiled for NVIDIA GPUs and CPUs; the model is on {kind}"


def lay_below(layers: str, denoisers: Mapping[str, nn.Module]) -> list[Compiled]:
    """Put it on; to be removed in reversed order, after all that was laid round it later.

    Args:
        layers: the word.
        denoisers: whose blocks are compiled.

    Raises:
        RequestError: a denoiser has no blocks that are known, or none has a layer for 8 bits;
            nothing was put on.
    """
    found: list[Compiled] = []
    if layers not in COMPILED:
        return found
    try:
        if layers == "fp8":
            _check_float8(denoisers)
        more = (to_float8, ROUNDED) if layers == "fp8" else (None, None)
        for own in denoisers.values():
            found.append(compile_blocks(own, BACKEND, *more))
    except BaseException:
        for own in reversed(found):
            own.remove()
        raise
    return found


def _check_float8(denoisers: Mapping[str, nn.Module]) -> None:
    for own in denoisers.values():
        inside = chain.from_iterable(block.named_modules() for _, block in blocks(own))
        if not any(takes_float8(name, module) for name, module in inside):
            kind = type(own).__name__
            raise RequestError(
                f"layers='fp8': no layer of {kind} is taken: in its blocks none has both sides "
                f"from {LEAST} up, in steps of {ALIGNED}"
            )
