"""The one switch for what stands beside attention in a model: `layers`.

"auto" lets the fused operators of an Ascend NPU answer for norms, gates and rotations, and on a CPU
whole decoder layers in C where a step has few tokens, both where they give what the model gives;
"off" leaves the model its own. "w8a8" on an NPU and "int8" on a CPU are "auto" with 8 bits: of the
weights and inputs of large layers (of a denoiser, or of any model on an NPU), or of a language
model's weights alone. They change results by about a hundredth and are never chosen unasked.

Of image models on an NVIDIA GPU or a CPU, "compiled" has torch compile the blocks, and "fp8" on a
GPU is that with large linear layers in 8-bit floating point, which changes results by some
hundredths (image_layers.py). Neither is chosen unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from mindsd.errors import RequestError

from .float8 import cannot_float8
from .image_layers import cannot_compile
from .int8_layers import cannot_round_layers
from .int8_weights import cannot_round
from .npu_w8a8 import cannot_quantize

EightBits = Callable[[str, torch.dtype], str | None]
LAYERS = ("auto", "off", "w8a8")
LANGUAGE_LAYERS = (*LAYERS, "int8")
IMAGE_LAYERS = (*LAYERS, "int8", "compiled", "fp8")
SERVED_LAYERS = (*LANGUAGE_LAYERS, "compiled", "fp8")  # of a server: each for models it is for
EIGHT_BITS = {"w8a8": cannot_quantize, "int8": cannot_round}
IMAGE_EIGHT_BITS = EIGHT_BITS | {
    "int8": cannot_round_layers,
    "compiled": cannot_compile,
    "fp8": cannot_float8,
}


def check_layers(
    wish: str,
    kind: str,
    dtype: torch.dtype,
    words: Sequence[str] = LAYERS,
    eight_bits: Mapping[str, EightBits] = EIGHT_BITS,
) -> None:
    """See that a model on a kind of device can have what is wished.

    Args:
        words: that may be wished; `LANGUAGE_LAYERS` for a language model, `IMAGE_LAYERS` for one
            that draws.
        eight_bits: why a word for 8 bits cannot be had; `IMAGE_EIGHT_BITS` for one that draws.

    Raises:
        RequestError: the word is unknown, or the device or dtype takes no 8 bits.
    """
    if wish not in words and wish in IMAGE_LAYERS and wish not in LANGUAGE_LAYERS:
        raise RequestError(f"layers={wish!r} is for models that draw; choose {', '.join(words)}")
    if wish not in words:
        raise RequestError(f"unknown layers {wish!r}; choose {', '.join(words)}")
    if wish in eight_bits and (reason := eight_bits[wish](kind, dtype)) is not None:
        raise RequestError(f"layers={wish!r}: {reason}")
