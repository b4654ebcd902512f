"""Linear layers whose weights lie as oneDNN reads them fastest.

A plain `nn.Linear` keeps its weight as a matrix; for every product the library copies pieces of it
into an order of its own, or reads it in a slow one. Laid out once, the same products took, on two
cores of an AMD EPYC with AVX512 (1536 x 576, plain against prepacked, us; benchmarks/pieces.py):

    rows       1         4          16         512
    float32    50 / 40   148 / 41   215 / 77   4118 / 1755
    bfloat16   42 / 28    47 / 30    64 / 49    924 / 908

It is what torch.compile does when it freezes a model, without compiling. Results differ from the
plain ones by rounding only. The weights stay where they are and the model takes twice the memory,
or they are kept in the new order alone (packed_weight.py); taken off, a layer has its own again. A
weight that is exchanged or changed in place is followed, by the plain product; only what is written
through the `.data` of a weight that stays cannot be seen. What the packed product cannot do (a
gradient, one row without a batch) the plain one does, with a copy of the weight for that call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindsd.leavings import Leavings
from mindsd.packed_weight import PackedWeight, Released
from mindsd.wrap import Wrap, wrap, wraps_round

ROWS = 64  # the layout is chosen for so many rows: no other count was slower with it
LEAST = 2**18  # weights; below, two threads meet for longer than one computes a row


@dataclass(frozen=True)
class After:
    """What oneDNN does to a product before it is written.

    Attributes:
        activation: "none", "gelu", "swish" and others of oneDNN.
        algorithm: of "gelu", "none" (by erf) or "tanh".
        add: a tensor of the product's shape and dtype, or None; only where there is no activation.
    """

    activation: str = "none"
    algorithm: str = ""
    add: Tensor | None = None


NOTHING = After()


@dataclass(frozen=True)
class Kind:
    """A kind of layer that can be prepacked.

    Attributes:
        fits: whether a module is one.
        pack: its weight in oneDNN's order.
        run: (module, input, packed weight, what follows) -> what its forward returns, after that.
        plain: (module, input, weight) -> what its forward returns with a weight as torch has it.
        dimensions: that an input has at least.
    """

    fits: Callable[[nn.Module], bool]
    pack: Callable[[Any], Tensor]
    run: Callable[[Any, Tensor, Tensor, After], Tensor]
    plain: Callable[[Any, Tensor, Tensor], Tensor]
    dimensions: int


class Prepacked:
    """The prepacked layers of a model; usable until `remove`.

    Args:
        model: in inference.
        kinds: of layers, None for the linear ones.
        release: keep their weights in oneDNN's order alone, except those that somebody shares and
            those that were made in inference mode, which nothing may be put into later.
        beside: models that may have weights of this one, too.

    Attributes:
        names: of the layers.

    Raises:
        MemoryError, RuntimeError: memory is short; the model is as it was.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: Sequence[Kind] | None = None,
        release: bool = False,
        beside: Iterable[nn.Module] = (),
    ):
        self.names: list[str] = []
        self._layers: list[_Layer] = []
        self._wraps: list[Wrap] = []
        users = _users((model, *beside)) if release else Counter()
        left = Leavings()
        try:
            for name, module in list(model.named_modules()):
                kind = next((own for own in kinds or (LINEAR,) if own.fits(module)), None)
                changed = release and "forward" in vars(module)  # another product than the weight's
                if kind is not None and not changed:
                    weight: Any = module.weight
                    size, address = weight.nbytes, weight.data_ptr()
                    self._put(name, module, kind, release and users[id(weight)] == 1)
                    left.add(size, address)
            left.give_back()
        except BaseException:
            self.remove()
            raise

    def _put(self, name: str, module: Any, kind: Kind, release: bool) -> None:
        layer = _Layer(module, kind, release and not module.weight.is_inference())
        self._layers.append(layer)
        self._wraps.append(wrap(module, "forward", layer))
        self.names.append(name)

    def remove(self) -> None:
        """The layers as they were; doing it twice does nothing."""
        for own in self._wraps:
            own.remove()
        left = Leavings()
        for layer in self._layers:
            left.add(layer.restore())
        left.give_back()
        self._wraps, self._layers = [], []


def _users(models: Iterable[nn.Module]) -> Counter[int]:
    """In how many places each parameter stands, by its id."""
    modules = {id(own): own for model in models for own in model.modules()}
    parameters = (own for module in modules.values() for own in module._parameters.values())
    return Counter(id(own) for own in parameters if own is not None)


def can_prepack(module: nn.Module, least: int = LEAST) -> bool:
    """Whether it is a plain linear layer on a CPU, in a dtype that oneDNN multiplies here."""
    if type(module) is not nn.Linear or module.weight.numel() < least:
        return False
    return packable(module)


def packable(module: Any) -> bool:
    """Whether a layer's weight is one that oneDNN multiplies here and that is not packed yet."""
    weight: Tensor = module.weight
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if isinstance(weight, PackedWeight):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def weight_bytes(model: nn.Module) -> int:
    """What prepacking takes: bytes of the weights of all linear layers that can be."""
    return sum(own.weight.nbytes for own in model.modules() if can_prepack(own))  # pyright: ignore


def followed(module: nn.Module, input: Tensor, after: After) -> Tensor | None:
    """A prepacked layer and what follows it, in one; None where it must be done plainly."""
    wraps = wraps_round(module, "forward")
    layer = wraps[0].function if wraps and not wraps[0].removed else None
    if not isinstance(layer, _Layer) or module._forward_hooks or module._forward_pre_hooks:
        return None
    return layer.run(input, after)


class _Layer:
    """In the place of one layer's forward."""

    def __init__(self, module: Any, kind: Kind, release: bool):
        self._module, self._kind, self._weight = module, kind, module.weight
        with torch.inference_mode(False), torch.no_grad():  # what is made now outlives that mode
            packed = kind.pack(module)
            self._state = state(module.weight)
            self._released = Released(module, packed) if release else None
        self._packed = None if release else packed

    def __call__(self, original: Callable[..., Tensor], input: Tensor) -> Tensor:
        found = self.run(input, NOTHING)
        if found is not None:
            return found
        if self._released is None or self._released.packed is None:
            return original(input)
        # Torch's own takes views of the weight, for which it would be unpacked for good.
        return self._kind.plain(self._module, input, self._module.weight.clone())

    def run(self, input: Tensor, after: After) -> Tensor | None:
        """What the layer gives, by the packed weight; None where that cannot be used."""
        if (
            input.dtype is not self._module.weight.dtype
            or input.dim() < self._kind.dimensions
            or not input.numel()
            or torch.is_grad_enabled()
        ):
            return None
        packed = self._present()
        if packed is None:
            return None
        return self._kind.run(self._module, input, packed, after)

    def restore(self) -> int:
        """The weight as it was; bytes that the packed one leaves."""
        if self._released is None:
            return 0
        self._released.restore()
        return self._module.weight.nbytes

    def _present(self) -> Tensor | None:
        """The packed weight, unless somebody changed the layer's: then ours is of the past."""
        if self._released is not None:
            return self._released.packed
        weight = self._module.weight
        same = weight is self._weight and state(weight) == self._state
        return self._packed if same else None


def _pack(module: nn.Linear) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), ROWS)


def run_linear(module: Any, input: Tensor, packed: Tensor, after: After) -> Tensor:
    """A packed product and what follows it; `module` has the bias."""
    operator = torch.ops.mkldnn._linear_pointwise
    if after.add is not None:
        return operator.binary(input, after.add, packed, module.bias, "add")
    return operator(input, packed, module.bias, after.activation, [], after.algorithm)


def _plain(module: nn.Linear, input: Tensor, weight: Tensor) -> Tensor:
    return F.linear(input, weight, module.bias)


def state(weight: Tensor) -> tuple[int, int | None]:
    """Where a tensor lies and how often it was changed; inference mode keeps no count."""
    return weight.data_ptr(), None if weight.is_inference() else weight._version


LINEAR = Kind(can_prepack, _pack, run_linear, _plain, dimensions=2)
ALL_LINEAR = partial(can_prepack, least=2**14)  # where many rows come at once
MANY_ROWS = Kind(ALL_LINEAR, _pack, run_linear, _plain, dimensions=2)
