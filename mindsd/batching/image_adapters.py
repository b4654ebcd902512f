"""Several LoRA adapters on one diffusers pipeline at once, each for the rows of its own requests.

    row of a forward    | A - | A + | B - | B + | C - | C + |    A, B, C: requests, guided
    adapter a, weight     0.8   0.8   0.3   0.3                  x[rows] * A.T * B.T * weight[rows]
    adapter b, weight                 1.0   1.0                  is added
    neither                                       *     *        nothing is added

The weights stay as they are: beside the model's own product each layer has two thin ones for every
adapter of the forward. It holds for the text encoders' forwards as for the denoiser's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from mindsd.batching.adapter_set import Adapter, AdapterSet
from mindsd.batching.rows import Row, Weighted, present_adapters, running_forward
from mindsd.errors import ModelError
from mindsd.request import Request
from mindsd.weights.image_lora import read_image_lora
from mindsd.weights.lora import LoraLayer


class ImageAdapters(AdapterSet):
    """The adapters of one diffusers pipeline; the places are those of its components' modules.

    Args:
        pipe: nothing is done to it before `add`, and to its linear and convolution layers alone.
    """

    noun = "LoRA"

    def __init__(self, pipe: Any):
        super().__init__()
        self._pipe = pipe

    def start(
        self, wished: Sequence[tuple[str, float]], submit: Callable[[Weighted], Request]
    ) -> Request:
        """The request that `submit` gives, told the adapters to be computed with (rows.py).

        Raises:
            RequestError: there is no LoRA of one of these names.
        """
        weights = [weight for _, weight in wished]

        def weighted(adapters: Sequence[Adapter]) -> Request:
            pairs = zip(adapters, weights, strict=True)
            return submit(tuple((own, weight) for own, weight in pairs if weight))

        return self.hold([name for name, _ in wished], weighted)

    def _read(self, path: str | Path) -> Mapping[str, LoraLayer]:
        return read_image_lora(path, self._pipe)

    def _module(self, place: str) -> Any:
        component, _, name = place.partition(".")
        return self._pipe.components[component].get_submodule(name)

    def _adapted(self, place: str) -> Callable[..., Tensor]:
        """The forward of one layer."""
        module = self._module(place)

        def adapted(original: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
            out = original(input)
            for part in _parts():
                if (layer := part.layers.get(place)) is not None:
                    out = part.add(module, layer, input, out)
            return out

        return adapted


@dataclass(frozen=True, eq=False)
class Part:
    """One adapter's share of a forward.

    Attributes:
        layers: of the adapter.
        rows: those that it works on, a slice where they stand side by side; None for all of them.
        weights: how strong it is, one number or one for each of its rows.
        total: rows of the forward.
    """

    layers: Mapping[str, LoraLayer]
    rows: slice | Tensor | None
    weights: float | Tensor
    total: int

    def add(self, module: nn.Module, layer: LoraLayer, x: Tensor, out: Tensor) -> Tensor:
        """What the adapted layer gives, of its input and what the model's own gives."""
        if self.rows is None:
            return out + self._product(module, layer, x).to(out.dtype)
        if x.shape[0] != self.total:
            raise ModelError(
                f"an adapted layer was given {x.shape[0]} rows of a forward of {self.total}; "
                "here requests with other LoRAs cannot share it"
            )
        added = self._product(module, layer, x[self.rows]).to(out.dtype)
        if isinstance(self.rows, slice):
            out[self.rows] += added
            return out
        return out.index_add_(0, self.rows, added)

    def _product(self, module: nn.Module, layer: LoraLayer, x: Tensor) -> Tensor:
        x = x.to(layer.a.dtype)
        if isinstance(module, nn.Conv2d):
            inner = conv2d(x, layer.a, None, module.stride, module.padding)
            added = conv2d(inner, layer.b)
        else:
            added = linear(linear(x, layer.a), layer.b)
        if not isinstance(self.weights, Tensor):
            return added * self.weights
        return added * self.weights.to(added.dtype).view(-1, *[1] * (added.ndim - 1))


def _parts() -> Sequence[Part]:
    """What each adapter of the forward that runs works on; outside an engine, of the call."""
    forward = running_forward()
    if forward is None:
        return [Part(own.layers, None, weight, 0) for own, weight in present_adapters()]
    if Part not in forward.plans:
        forward.plans[Part] = _divided(forward.rows)
    return forward.plans[Part]


def _divided(rows: Sequence[Row]) -> list[Part]:
    shares: dict[Any, dict[int, float]] = {}
    for place, row in enumerate(rows):
        for adapter, weight in row.adapters:
            shares.setdefault(adapter, {})[place] = weight
    return [_part(adapter.layers, own, len(rows)) for adapter, own in shares.items()]


def _part(layers: Mapping[str, LoraLayer], share: Mapping[int, float], total: int) -> Part:
    """The share of one adapter: how strong it is in each of its rows."""
    places, weights = list(share), list(share.values())
    device = next(iter(layers.values())).a.device
    same = len(set(weights)) == 1
    strength = weights[0] if same else torch.tensor(weights, device=device)
    if same and len(places) == total:
        return Part(layers, None, strength, total)
    if places[-1] - places[0] == len(places) - 1:
        return Part(layers, slice(places[0], places[-1] + 1), strength, total)
    return Part(layers, torch.tensor(places, device=device), strength, total)
