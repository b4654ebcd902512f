"""The one switch for what stands beside attention in a model: `layers`.

"auto" lets the fused operators of an Ascend NPU answer for norms, gates and rotations, and on a CPU
whole decoder layers in C where a step has few tokens, both where they give what the model gives;
"off" leaves the model its own. "w8a8" on an NPU and "int8" on a CPU are "auto" with 8 bits: of the
weights and inputs of large linear layers, or of a language model's weights alone. They change
results by about a hundredth and are never chosen unasked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindsd.errors import RequestError

from .int8_weights import cannot_round
from .npu_w8a8 import cannot_quantize

LAYERS = ("auto", "off", "w8a8")
LANGUAGE_LAYERS = (*LAYERS, "int8")
EIGHT_BITS = {"w8a8": cannot_quantize, "int8": cannot_round}


def check_layers(wish: str, kind: str, dtype: torch.dtype, words: Sequence[str] = LAYERS) -> None:
    """See that a model on a kind of device can have what is wished.

    Args:
        words: that may be wished; `LANGUAGE_LAYERS` for a language model.

    Raises:
        RequestError: the word is unknown, or the device or dtype takes no 8 bits.
    """
    if wish not in words:
        raise RequestError(f"unknown layers {wish!r}; choose {', '.join(words)}")
    if wish in EIGHT_BITS and (reason := EIGHT_BITS[wish](kind, dtype)) is not None:
        raise RequestError(f"layers={wish!r}: {reason}")
