"""Linear layers whose weights are rounded to 8 bits and kept in the model's dtype.

Each output of a layer has its own scale (as in LLM.int8(), arXiv:2208.07339, without the inputs):
127 levels on either side of zero. Inputs are not rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mindsd.errors import RequestError

from .decoder_parts import Parts, find_parts, layers_of
from .decoder_product import library, rounded


def cannot_round(kind: str, dtype: torch.dtype) -> str | None:
    """Why no layer can have 8-bit weights on a kind of device, or None."""
    if kind != "cpu":
        return f"int8 is computed on a CPU only; the model is on {kind}"
    found = library(dtype)
    return found if isinstance(found, str) else None


class Rounded:
    """The decoder layers of a model with rounded weights; usable until `remove`.

    The weights themselves are kept for that day, so the model takes twice the memory.

    Attributes:
        names: of the decoder layers.

    Raises:
        RequestError: the model has no layer of the kind that C computes (decoder_parts.py).
    """

    def __init__(self, model: nn.Module):
        found = {name: find_parts(layer) for name, layer in layers_of(model)}
        self.names = [name for name, own in found.items() if isinstance(own, Parts)]
        if not self.names:
            reasons = "; ".join(sorted({str(own) for own in found.values()})) or "it has none"
            raise RequestError(
                f"layers='int8': no layer of {type(model).__name__} is taken: {reasons}"
            )
        parts = [own for own in found.values() if isinstance(own, Parts)]
        self._before = [(own, own.weight) for part in parts for own in part.linears]
        for own, weight in self._before:
            own.weight = nn.Parameter(_back(weight), requires_grad=False)

    def remove(self) -> None:
        """The weights as they were; doing it twice does nothing."""
        for own, weight in self._before:
            own.weight = weight
        self._before = []


def _back(weight: Tensor) -> Tensor:
    levels, scale = rounded(weight)
    return (levels * scale[:, None]).to(weight.dtype)
