"""Several LoRA adapters on one model at once, each for the tokens of its own sequences.

    row of a step    | d a | d - | d b | p p p a | p p - |       a, b: adapters; -: none
    adapter a          *                 * * *                   x[rows] @ A.T @ B.T is added
    adapter b                      *

The weights stay as they are: beside the model's own product each layer has two thin ones for every
adapter of the step, over its own tokens (as in S-LoRA, arXiv:2311.03285), and none where nobody has
an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from mindsd.batching.adapter_set import AdapterSet
from mindsd.errors import ModelError
from mindsd.kvcache.step import Segment, Step, present_step
from mindsd.request import Request
from mindsd.weights.lora import LoraLayer, read_lora


class Adapters(AdapterSet):
    """The adapters of one language model.

    Several of these may be on one model; each knows its own adapters alone.

    Args:
        model: a transformers decoder that runs packed. Nothing is done to it before `add`, and to
            its linear layers alone, each on the instance. Adapters are folders of peft's.
    """

    def __init__(self, model: Any):
        super().__init__()
        self._model = model

    def start(self, name: str, submit: Callable[[str], Request]) -> Request:
        """The request that `submit(key)` gives, where a segment is called by the adapter's key.

        Raises:
            RequestError: there is no adapter of this name.
        """
        return self.hold([name], lambda own: submit(own[0].key))

    def _read(self, path: str | Path) -> Mapping[str, LoraLayer]:
        return read_lora(path, self._model)

    def _module(self, place: str) -> Any:
        return self._model.get_submodule(place)

    def _adapted(self, place: str) -> Callable[..., Tensor]:
        """The forward of one linear layer: [..., in] -> [..., out]."""

        def adapted(original: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            out = original(x)
            step = present_step()
            if step is None:
                return out
            for part in step.plan(self, lambda: self._parts(step)):
                if (layer := part.layers.get(place)) is not None:
                    out = part.add(layer, x, out)
            return out

        return adapted

    def _parts(self, step: Step) -> list[Part]:
        """What each adapter of a step works on."""
        keyed = {own.key: own for own in self._named.values()}
        segments: dict[str, list[Segment]] = {}
        for segment in step.segments:
            if segment.adapter in keyed:
                segments.setdefault(segment.adapter, []).append(segment)
        return [
            Part(keyed[key].layers, _rows(own, step.device), step.tokens)
            for key, own in segments.items()
        ]


@dataclass(frozen=True, eq=False)
class Part:
    """One adapter's share of a step.

    Attributes:
        layers: of the adapter.
        rows: its tokens in the step, a slice where they stand side by side.
        tokens: of the step.
    """

    layers: Mapping[str, LoraLayer]
    rows: slice | Tensor
    tokens: int

    def add(self, layer: LoraLayer, x: Tensor, out: Tensor) -> Tensor:
        """What the adapted layer gives, of its input and what the model's own gives."""
        flat, sums = x.flatten(0, -2), out.flatten(0, -2)
        if flat.shape[0] != self.tokens:
            raise ModelError(
                f"an adapted layer was given {flat.shape[0]} tokens of a step of {self.tokens}; "
                "adapters do not work on this model"
            )
        added = linear(linear(flat[self.rows], layer.a), layer.b)
        if isinstance(self.rows, slice):
            sums[self.rows] += added
        else:
            sums.index_add_(0, self.rows, added)
        return sums.view(out.shape)


def _rows(segments: list[Segment], device: torch.device) -> slice | Tensor:
    first, last = segments[0].start, segments[-1].stop
    if sum(segment.length for segment in segments) == last - first:
        return slice(first, last)
    places = [place for own in segments for place in range(own.start, own.stop)]
    return torch.tensor(places, device=device)
