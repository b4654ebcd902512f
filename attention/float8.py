"""Large linear layers of denoisers in 8-bit floating point on NVIDIA GPUs: `layers="fp8"`.

By torchao: weights once by output channel, inputs anew by token (e4m3 both), the product by torch's
own scaled matrix product. Only what lies in the blocks that are compiled is rounded, for only a
compiler makes the rounding of inputs a part of what comes before it. The plain weights stay, for
the day it is undone: the rounded ones come on top, half as large. On a CPU the same layers give the
same numbers.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from .npu_linear import LEAST
from .npu_w8a8 import STEERS
from .twin import Twin

ALIGNED = 16  # numbers: what the product asks of both sides of a weight
OLDEST = (8, 9)  # compute capability


def cannot_float8(kind: str, dtype: torch.dtype) -> str | None:
    """Why no layer can run in 8-bit floating point on a kind of device, or None."""
    if kind != "cuda":
        return f"fp8 is computed on NVIDIA GPUs only; the model is on {kind}"
    if dtype is not torch.bfloat16:
        return f"fp8 rounds bfloat16; the model is in {dtype}".replace("torch.", "")
    if (found := torch.cuda.get_device_capability()) < OLDEST:
        own, least = (".".join(map(str, pair)) for pair in (found, OLDEST))
        return f"fp8 needs a GPU of compute capability {least}; this one has {own}"
    if find_spec("torchao") is None:
        return "fp8 needs torchao: pip install 'mindsd[quant]'"
    return None


def to_float8(twin: Twin) -> None:
    """Round the large linear layers of a twin; those that embed or modulate stay."""
    from torchao.quantization import (  # pyright: ignore[reportMissingImports]
        Float8DynamicActivationFloat8WeightConfig,
        PerRow,
        quantize_,
    )

    # Its own setting of the compiler is the whole program's, and turns TF32 on.
    way: Any = Float8DynamicActivationFloat8WeightConfig
    config = way(granularity=PerRow(), set_inductor_config=False)
    large = [own for name, own in twin.bare.named_modules() if takes_float8(name, own)]
    for own in large:
        twin.part_from(own, "weight")
    quantize_(twin.bare, config, filter_fn=lambda own, _: any(own is found for found in large))


def takes_float8(name: str, module: nn.Module) -> bool:
    """Whether a layer of a block is large enough, and no embedding or modulation."""
    if type(module) is not nn.Linear or STEERS.search(name):
        return False
    sides = module.weight.shape
    return min(sides) >= LEAST and not any(side % ALIGNED for side in sides)
