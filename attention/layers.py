"""The one switch for what stands beside attention in a model: `layers`.

"auto" lets the fused operators of an Ascend NPU answer for norms, gates and rotations where they
give what the model gives; "off" leaves the model its own; "w8a8" is "auto" with large linear layers
in 8 bits, which changes results by about a hundredth and is never chosen unasked.
"""

from __future__ import annotations

import torch

from mindsd.errors import RequestError

from .npu_w8a8 import cannot_quantize

LAYERS = ("auto", "off", "w8a8")


def check_layers(wish: str, kind: str, dtype: torch.dtype) -> None:
    """See that a model on a kind of device can have what is wished.

    Raises:
        RequestError: the word is unknown, or the device or dtype takes no 8 bits.
    """
    if wish not in LAYERS:
        raise RequestError(f"unknown layers {wish!r}; choose {', '.join(LAYERS)}")
    if wish == "w8a8" and (reason := cannot_quantize(kind, dtype)) is not None:
        raise RequestError(f"layers='w8a8': {reason}")
