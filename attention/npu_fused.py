"""What stands beside attention in a model, in the fused operators of Ascend NPUs or GPUs.

Norms, gated activations and rotary embeddings. A module is chosen by what it is, and trusted once
both ways gave the same numbers, here. What is an NPU's was written from the documentation of
op-plugin, and not yet run on one; what is a GPU's is ours (fused_operators.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mindsd.device import NPU_CHIPS, npu_chip
from mindsd.wrap import Wrap, wrap

from .fused_operators import CUDA, why_absent
from .npu_gates import geglu, swiglu
from .npu_norms import layer, norm
from .npu_offer import Offer
from .npu_rotary import rotary

Kind = Callable[[Any], Offer | None]


class Fused:
    """The modules of a model that run fused; usable until `remove`.

    Attributes:
        served: module name -> the operator that answers for it.
        left: module name -> why it runs as it did, for those that looked right.
    """

    def __init__(self) -> None:
        self.served: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self._wraps: list[Wrap] = []
        self._offers: list[Offer] = []

    def offer(self, name: str, offer: Offer) -> None:
        """Put it on if it is right."""
        if (wrong := offer.wrong()) is not None:
            self.left[name] = f"{offer.operator} {wrong}"
            offer.undo()
            return
        self.served[name] = offer.operator
        self._offers.append(offer)
        self._wraps.append(wrap(offer.module, "forward", offer.run))

    def remove(self) -> None:
        """The model as it was; doing it twice does nothing."""
        for own in reversed(self._wraps):
            own.remove()
        for offer in self._offers:
            offer.undo()
        self._wraps, self._offers = [], []

    def __enter__(self) -> Fused:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def fuse(model: nn.Module, devices: Sequence[str] = ("npu",)) -> Fused:
    """Let fused operators answer for the modules of a model that lie on such a device.

    Elsewhere nothing is touched, so a caller need not ask where a model is.

    Args:
        model: of transformers or diffusers, in inference.
        devices: kinds of devices; all but a GPU count as an NPU.
    """
    fused, device = Fused(), next((own.device for own in model.parameters()), None)
    if device is None or device.type not in devices:
        return fused
    if (reason := why_absent(device.type)) is not None:
        fused.left["all"] = reason
        return fused
    large = device.type in CUDA or npu_chip(device.index or 0) in NPU_CHIPS
    for kind in _kinds(model, large):
        for name, module in model.named_modules():
            if name not in fused.served and (offer := kind(module)) is not None:
                fused.offer(name, offer)
    return fused


def _kinds(model: nn.Module, large: bool) -> list[Kind]:
    """Which to look for. A 310P knows fewer; angles are documented within 1, which scaled ones
    (YaRN) leave."""
    if not large:
        return [norm]
    scales = {getattr(own, "attention_scaling", 1.0) for own in model.modules()}
    return [norm, layer, geglu, swiglu, *([rotary] if scales == {1.0} else [])]
