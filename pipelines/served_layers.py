"""A server's one word of `layers`: for every model that can take it; the others run as with "auto".

Which can is known in part before anything is loaded (the machine, the kind of model), in part only
when it is there (a small model has no layer that is worth rounding).
"""

from __future__ import annotations

import torch

from mindsd.attention.layers import (
    EIGHT_BITS,
    IMAGE_EIGHT_BITS,
    IMAGE_LAYERS,
    LANGUAGE_LAYERS,
    SERVED_LAYERS,
    check_layers,
)
from mindsd.device import DTYPES, Device
from mindsd.errors import RequestError
from mindsd.pipelines.shelf import Kind

DRAW, WRITE = "models that draw", "models that write"
WORDS = {DRAW: IMAGE_LAYERS, WRITE: LANGUAGE_LAYERS}
CANNOT = {DRAW: IMAGE_EIGHT_BITS, WRITE: EIGHT_BITS}


def check_served(layers: str, place: Device, dtype: str) -> None:
    """Refuse a word that no model at all can have on this machine.

    Args:
        dtype: of all models, or "auto", which is float32 for small ones.

    Raises:
        RequestError: says why, for each kind of model that has such a word.
    """
    if layers not in SERVED_LAYERS:
        raise RequestError(f"unknown layers {layers!r}; choose {', '.join(SERVED_LAYERS)}")
    known = DTYPES.get(dtype)
    reasons = {}
    for kind, words in WORDS.items():
        if layers not in words:
            continue
        for own in (known,) if known else dict.fromkeys((place.dtype, torch.float32)):
            try:
                check_layers(layers, place.kind, own, words, CANNOT[kind])
                return
            except RequestError as reason:
                reasons[kind] = str(reason).removeprefix(f"layers={layers!r}: ")
    told = "; ".join(f"{kind}: {reason}" for kind, reason in reasons.items())
    if len(set(reasons.values())) == 1:
        told = next(iter(reasons.values()))
    raise RequestError(f"layers={layers!r}: {told}")


def word_for(kind: Kind, layers: str) -> str:
    """The word that a kind of model is loaded with."""
    return layers if layers in WORDS[DRAW if kind == "image" else WRITE] else "auto"
