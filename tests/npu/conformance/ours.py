"""The same questions to mindsd: through its registry, whose first backend is the NPU's."""

from __future__ import annotations

from torch import Tensor, nn

from mindsd.attention.contract import Call
from mindsd.attention.for_diffusers import Attached, attach
from mindsd.attention.npu_elsewhere import keep_off
from mindsd.attention.npu_fused import fuse
from mindsd.attention.registry import Registry

REGISTRY = Registry()


def by_mindsd(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """q, k, v and the result [B, S, N, D]; computed on the NPU, by its own backend or not at all.

    Raises:
        RuntimeError: another backend than the NPU's was chosen.
    """
    q, k, v = (x.to("npu").transpose(1, 2) for x in (q, k, v))
    mask = None if attn_mask is None else attn_mask.to("npu")
    call = Call(q, k, v, mask=mask, causal=is_causal)
    chosen = REGISTRY.choose(call)
    if chosen.name != "npu":
        raise RuntimeError(f"{chosen.name} was chosen")
    return chosen.run(call).transpose(1, 2)


def fused(module: nn.Module, x: Tensor) -> Tensor:
    """What a module gives on the NPU, itself in a fused operator.

    Raises:
        RuntimeError: no operator answers for it.
    """
    with fuse(module.to("npu")) as own:
        if not own.served:
            raise RuntimeError(f"it is left: {own.left}")
        return module(x.to("npu"))


def kept_off(module: nn.Module, x: Tensor) -> Tensor:
    """What a module gives for a tensor on the CPU, kept from asking for the NPU's operators."""
    wraps = keep_off(module)
    try:
        return module(x)
    finally:
        for own in wraps:
            own.remove()


def attached(model: nn.Module) -> Attached:
    """A model whose attention mindsd answers.

    Raises:
        RuntimeError: part of it is left.
    """
    own = attach(model, REGISTRY)
    if own.left or not own.served:
        raise RuntimeError(f"served {own.served}, left {own.left}")
    return own
