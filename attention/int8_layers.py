"""Which layers of a denoiser run in 8 bits on a CPU, and which are left plain.

As on an NPU (npu_w8a8.py) only what lies in the repeated blocks is rounded: first and last layers,
embeddings and modulations cost little and steer every token. What reads the text has few rows. A
layer takes part once both ways gave like numbers, here. It changes results by about a hundredth,
so it is only done where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.device import cpu_facts
from mindsd.errors import RequestError
from mindsd.packed_weight import PackedWeight

from .int8_products import Last, Rounded
from .int8_rounding import DTYPES
from .npu_fused import Fused
from .npu_offer import Offer, changed
from .npu_w8a8 import IN_A_BLOCK, STEERS

OPERATORS = ("qlinear_prepack", "qlinear_pointwise", "qconv_prepack", "qconv_pointwise")
NEEDS = ("avx512_vnni", "amx_int8")  # one of them: without, sums of products saturate
TOLERANCE = 5e-2  # of the largest number; 8 bits of both sides are off by about 1e-2
LEAST = 320  # of a side: 1.4x at 320 x 320, .9x at 128 x 128 (bfloat16, AVX512 with VNNI)
KEYS = ("to_k", "to_v")


def cannot_round_layers(kind: str, dtype: torch.dtype) -> str | None:
    """Why no layer of a denoiser can run in 8 bits on a kind of device, or None."""
    if kind != "cpu":
        return f"int8 is computed on a CPU only; the model is on {kind}"
    if dtype not in DTYPES:
        return f"int8 rounds float32 and bfloat16; the model is in {dtype}".replace("torch.", "")
    if lacking := [own for own in OPERATORS if not hasattr(torch.ops.onednn, own)]:
        return f"torch {torch.__version__} has no onednn.{lacking[0]}"
    if not set(NEEDS) & set(cpu_facts()[1]):
        return f"this processor has neither {' nor '.join(NEEDS)}"
    return None


def round_layers(model: nn.Module) -> Fused:
    """Run the large linear layers and convolutions in a denoiser's blocks in 8 bits.

    The plain weights stay, for whoever saves or adapts them and for the day it is undone: the
    rounded ones come on top, a byte for each weight. Put it on before `fuse_cpu`, which leaves
    alone what is run already.

    Returns:
        what runs so, and in `left` every other linear layer and convolution with the reason.

    Raises:
        RequestError: the device, dtype or torch takes no 8 bits, or the model has no layer for
            them.
        MemoryError, RuntimeError: memory is short; the model is as it was.
    """
    first = next(model.parameters())
    if (reason := cannot_round_layers(first.device.type, first.dtype)) is not None:
        raise RequestError(f"layers='int8': {reason}")
    fused, last = Fused(), Last()
    reads_text = set(_text_readers(model))
    try:
        for name, module in list(model.named_modules()):
            if not isinstance(module, nn.Linear | nn.Conv2d):
                continue
            reason = "reads the text" if id(module) in reads_text else _why_plain(name, module)
            if reason is None:
                fused.offer(name, _offer(module, last))
            else:
                fused.left[name] = reason
    except BaseException:
        fused.remove()
        raise
    if not fused.served:
        reasons = "; ".join(sorted(set(fused.left.values()))) or "it has none"
        kind = type(model).__name__
        raise RequestError(f"layers='int8': no layer of {kind} is taken: {reasons}; leave it out")
    return fused


def _offer(module: Any, last: Last) -> Offer:
    layer = Rounded(module, last)
    name = "qconv" if isinstance(module, nn.Conv2d) else "qlinear"
    return Offer(name, module, layer, _trials(module, layer), TOLERANCE)


def _trials(module: Any, layer: Rounded) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Normal numbers: five tokens each of two images, or two images of 6 x 5."""
    width = module.weight.shape[1]
    shape = (2, width, 6, 5) if isinstance(module, nn.Conv2d) else (2, 5, width)

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        sample = drawn.to(module.weight.dtype)
        yield module.forward(sample), layer.run(sample)

    return trials


def _text_readers(model: nn.Module) -> Iterator[int]:
    """Keys and values of attention to something else: of so many rows as a text has words."""
    for own in model.modules():
        if getattr(own, "is_cross_attention", False):
            yield from (id(getattr(own, name, None)) for name in KEYS)


def _why_plain(name: str, module: Any) -> str | None:
    if not IN_A_BLOCK.search(name):
        return "stands outside of the repeated blocks"
    if STEERS.search(name):
        return "embeds, modulates or chooses"
    if type(module) not in (nn.Linear, nn.Conv2d):
        return f"is a {type(module).__name__}, not a plain layer"
    if changed(module):
        return "is run by somebody else already"
    return misfit(module)


def misfit(module: nn.Linear | nn.Conv2d) -> str | None:
    """Why a layer's weight or size is none for 8 bits, or None."""
    weight = module.weight
    if weight.dtype not in DTYPES or isinstance(weight, PackedWeight):
        return "has a weight of another kind"
    if isinstance(module, nn.Linear):
        dense = weight.is_contiguous()
    else:
        windows = module.padding_mode != "zeros" or isinstance(module.padding, str)
        if windows or module.groups > 1:
            return "has groups, or pads otherwise than with zeros"
        dense = weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    if not dense:
        return "has a weight of another kind"
    if min(len(weight), weight[0].numel()) < LEAST:
        return f"has a side under {LEAST}"
    return None
