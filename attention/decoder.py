"""Puts a transformers model's decoder layers and its head in C, and takes them off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindsd.prepack import state

from .decoder_layer import Crew, NativeLayer
from .decoder_own import is_own
from .decoder_parts import Parts, find_parts, layers_of
from .decoder_product import KINDS, ROWS, Linear, library, rounded
from .decoder_shelf import Shelf
from .decoder_trial import offer_of
from .npu_fused import Fused
from .npu_offer import TOLERANCES, Offer


def attach_decoder(model: Any, eight_bits: bool = False) -> Fused:
    """Let C answer for the decoder layers and the head of a model on a CPU, in steps of few tokens.

    Its attention must be attached already (for_transformers.py), for it is compared with.

    Args:
        eight_bits: weights as int8. Those of the layers are to be rounded already
            (int8_weights.py), so that long steps give the same; the head is rounded here.

    Returns:
        what runs so, and in `left` every decoder layer that does not, with the reason.
    """
    fused = Fused()
    found = {name: find_parts(layer) for name, layer in layers_of(model)}
    fused.left = {name: own for name, own in found.items() if isinstance(own, str)}
    layers = {name: own for name, own in found.items() if isinstance(own, Parts)}
    for name in [name for name, own in layers.items() if not all(map(is_own, own.inner))]:
        fused.left[name] = "somebody laid a function round one of its parts"
        del layers[name]
    if not layers:
        return fused
    dtype = next(iter(layers.values())).attention.q_proj.weight.dtype
    built = library(dtype)
    if isinstance(built, str):
        fused.left |= dict.fromkeys(layers, built)
        return fused
    try:
        _attach(fused, model, layers, Crew(built), eight_bits)
    except BaseException:
        fused.remove()
        raise
    return fused


def _attach(
    fused: Fused, model: Any, layers: dict[str, Parts], crew: Crew, eight_bits: bool
) -> None:
    for name, parts in layers.items():
        own = NativeLayer(parts, crew, eight_bits)
        try:
            offer = offer_of(parts, own.run)
        except Exception as error:  # the layer itself takes other arguments than we know
            fused.left[name] = f"{type(error).__name__}: {error}".split("\n")[0]
            continue
        fused.offer(name, offer)
        if name in fused.served:
            crew.join(own)
    head = model.get_output_embeddings() if fused.served else None
    if type(head) is nn.Linear and head.weight.dtype in KINDS and is_own(head):
        fused.offer("the head", _head(head, eight_bits, crew.shelf))


def _head(module: nn.Linear, eight_bits: bool, shelf: Shelf) -> Offer:
    own = NativeHead(module, eight_bits, shelf)
    tolerance = TOLERANCES[module.weight.dtype]
    return Offer("C", module, own.run, own.trials, tolerance)


class NativeHead:
    """The last linear layer in C, for few rows; of 8 bits, for all.

    Args:
        eight_bits: round its weight, which may be the embedding's too and stays what it is.
    """

    def __init__(self, module: nn.Linear, eight_bits: bool, shelf: Shelf):
        self._module, self._eight_bits = module, eight_bits
        self._weight, self._state = module.weight, state(module.weight)
        self._linear = Linear(module.weight, module.bias, eight_bits, shelf)

    def run(self, original: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
        """In the place of its forward."""
        weight, rows = self._module.weight, input.numel() // max(1, input.shape[-1])
        if (
            weight is not self._weight
            or state(weight) != self._state
            or input.dtype is not weight.dtype
            or torch.is_grad_enabled()
            or not (self._eight_bits or 0 < rows <= ROWS)
        ):
            return original(input)
        out = self._linear(input.reshape(-1, input.shape[-1]))
        return out.view(*input.shape[:-1], self._linear.outputs)

    def trials(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of what the weight gives, rounded where it is to be, and what C gives."""
        weight = self._weight
        if self._eight_bits:
            levels, scale = rounded(weight)
            weight = (levels * scale[:, None]).to(weight.dtype)
        generator = torch.Generator().manual_seed(0)
        for rows in (1, 5):
            x = torch.randn(rows, weight.shape[1], generator=generator).to(weight.dtype)
            yield F.linear(x, weight, self._module.bias), self.run(self._module.forward, x)
