"""Linear layers whose weights lie as oneDNN reads them fastest.

A plain `nn.Linear` keeps its weight as a matrix; for every product the library copies pieces of it
into an order of its own, or reads it in a slow one. Laid out once, the same products took, on two
cores of an AMD EPYC with AVX512 (1536 x 576, plain against prepacked, us; benchmarks/kernels.py):

    rows       1         4          16         512
    float32    50 / 40   148 / 41   215 / 77   4118 / 1755
    bfloat16   42 / 28    47 / 30    64 / 49    924 / 908

It is what torch.compile does when it freezes a model, without compiling. Results differ from the
plain ones by rounding only. The weights stay where they are, so that everything can be taken off
again: the model takes twice the memory. A weight that is exchanged or changed in place is followed,
by the plain product; only what is written through its `.data` cannot be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.wrap import Wrap, wrap

ROWS = 64  # the layout is chosen for so many rows: no other count was slower with it
LEAST = 2**18  # weights; below, two threads meet for longer than one computes


class Prepacked:
    """The prepacked linear layers of a model; usable until `remove`.

    Attributes:
        names: of the layers.
    """

    def __init__(self, model: nn.Module):
        self.names: list[str] = []
        self._wraps: list[Wrap] = []
        for name, module in model.named_modules():
            if can_prepack(module):
                self.names.append(name)
                self._wraps.append(wrap(module, "forward", _Layer(module)))

    def remove(self) -> None:
        """The layers as they were; doing it twice does nothing."""
        for own in self._wraps:
            own.remove()


def can_prepack(module: nn.Module) -> bool:
    """Whether it is a plain linear layer on a CPU, in a dtype that oneDNN multiplies here."""
    if type(module) is not nn.Linear or module.weight.device.type != "cpu":
        return False
    weight = module.weight
    if weight.numel() < LEAST or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def weight_bytes(model: nn.Module) -> int:
    """What prepacking takes: bytes of the weights of all layers that can be."""
    return sum(own.weight.nbytes for own in model.modules() if can_prepack(own))  # pyright: ignore


class _Layer:
    """In the place of one layer's forward."""

    def __init__(self, module: Any):
        self._module, self._weight = module, module.weight
        with torch.no_grad():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), ROWS)
        self._state = _state(module.weight)

    def __call__(self, original: Callable[..., Tensor], input: Tensor) -> Tensor:
        weight = self._module.weight
        if (
            weight is not self._weight
            or _state(weight) != self._state  # somebody changed it: ours is of the past
            or input.dtype is not weight.dtype
            or input.dim() < 2
            or not input.numel()
            or torch.is_grad_enabled()
        ):
            return original(input)
        bias = self._module.bias
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, bias, "none", [], "")


def _state(weight: Tensor) -> tuple[int, int | None]:
    """Where a tensor lies and how often it was changed; inference mode keeps no count."""
    return weight.data_ptr(), None if weight.is_inference() else weight._version
