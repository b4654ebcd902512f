"""A model of diffusers or transformers fast on a CPU: prepacked layers, and what stands between.

Convolutions and linear layers keep their weights as oneDNN reads them (mindsd/prepack.py), images
lie channels last, and norms, activations and sums run in one pass each (cpu_fused.c). As on an NPU
(npu_fused.py) a module is chosen by what it is, and trusted once both ways gave the same numbers.
The model computes what it computed; results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from mindsd.device import SMALL_MODEL
from mindsd.packed_weight import PackedWeight
from mindsd.prepack import MANY_ROWS, Prepacked
from mindsd.prepack_conv import CONV, PIXELS
from mindsd.wrap import Wrap, wrap

from .cpu_fused_blocks import OUTPUT, dit_block, resnet, tokens_to_image
from .cpu_fused_gates import gate, gelu
from .cpu_fused_kernels import why_absent
from .cpu_fused_norms import group, layer, modulated
from .cpu_fused_winograd import WINOGRAD
from .npu_offer import Offer

LAYERS = (MANY_ROWS, PIXELS, WINOGRAD, CONV)  # kinds of them; the first that takes one has it
# Blocks first: what is inside one runs as a part of it.
KINDS: tuple[Callable[[Any], Offer | None], ...] = (
    *(resnet, dit_block, tokens_to_image, modulated),
    *(gate, gelu, group, layer),
)
# The norms that a block runs itself.
WHOLE = {"resnet": ("norm1", "norm2"), "dit_block": ("norm1", "norm2"), "modulated": ("norm",)}


class CpuFused:
    """A model made fast on a CPU; made by `fuse_cpu`. Usable as a context manager.

    Attributes:
        prepacked: its layers whose weights lie anew.
        served: module name -> the kernel that answers for it.
        left: module name -> why it runs as it did, for those that looked right.
    """

    def __init__(self, model: nn.Module, beside: Iterable[nn.Module] = ()):
        self.served: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self._wraps: list[Wrap] = []
        self.prepacked = Prepacked(model, LAYERS, release=True, beside=beside)
        try:
            _leave_files(model)
            if why_absent() is None:
                for name, offer in _offers(model):
                    self._put(name, offer)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """The model as it was; doing it twice does nothing."""
        for own in reversed(self._wraps):
            own.remove()
        self.prepacked.remove()
        self._wraps = []

    def _put(self, name: str, offer: Offer) -> None:
        if (wrong := offer.wrong()) is not None:
            self.left[name] = f"{offer.operator} {wrong}"
            return
        self.served[name] = offer.operator
        method = OUTPUT if offer.operator == "tokens_to_image" else "forward"
        self._wraps.append(wrap(offer.module, method, offer.run))

    def __enter__(self) -> CpuFused:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def fuse_cpu(model: nn.Module, beside: Iterable[nn.Module] = ()) -> CpuFused | None:
    """Make a model in inference fast on a CPU; None where it lies elsewhere.

    The plain weights are let go as the packed ones are made, and come back on removal. Without a C
    compiler, layers are prepacked and nothing is fused.

    Args:
        beside: models that may have weights of this one, too: those weights are not let go.

    Raises:
        MemoryError, RuntimeError: memory is short; the model is as it was.
    """
    device = next((own.device for own in model.parameters()), None)
    return None if device is None or device.type != "cpu" else CpuFused(model, beside)


def fuse_large(models: Mapping[str, nn.Module]) -> dict[str, CpuFused]:
    """Make models that work together fast on a CPU, if they are large enough to be worth it.

    Small ones keep their own numbers to the last bit, whatever the batch they run in.

    Raises:
        MemoryError, RuntimeError: memory is short; all models are as they were.
    """
    weights = (own.nbytes for model in models.values() for own in model.parameters())
    if sum(weights) < SMALL_MODEL:
        return {}
    found: dict[str, CpuFused] = {}
    try:
        for name, own in models.items():
            if (fused := fuse_cpu(own, models.values())) is not None:
                found[name] = fused
    except BaseException:
        for fused in found.values():
            fused.remove()
        raise
    return found


def _leave_files(model: nn.Module) -> None:
    """Copy what still lies in a file's mapping: the least of it would keep all in memory."""
    for own in (*model.parameters(), *model.buffers()):
        if isinstance(own, PackedWeight) or own.is_inference():
            continue
        if own.untyped_storage().nbytes() > own.nbytes:
            own.data = own.data.clone()


def _offers(model: nn.Module) -> Iterator[tuple[str, Offer]]:
    """What looks right, blocks before what stands alone, and nobody wraps: ours is below all."""
    inside: set[int] = set()
    for kind in KINDS:
        for name, module in list(model.named_modules()):
            if id(module) in inside or "forward" in vars(module):
                continue
            if (offer := kind(module)) is not None:
                inside |= {id(getattr(module, own)) for own in WHOLE.get(offer.operator, ())}
                yield name, offer
