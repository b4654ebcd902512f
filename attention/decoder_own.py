"""Whether the parts of a layer in C are what they were when it was laid out."""

from __future__ import annotations

from torch import nn

from mindsd.wrap import wraps_round

PREPACKED = "mindsd.prepack"  # whose wraps give what the module gives
ADAPTERS = "mindsd.batching.adapters"  # and whose do where no segment has an adapter


def is_own(module: nn.Module) -> bool:
    """Whether a module runs its own forward, or what gives the same where nobody has an adapter."""
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    wraps = wraps_round(module, "forward")
    if wraps is None:
        return False
    live = [one.function for one in wraps if not one.removed]
    return all(own.__module__ in (PREPACKED, ADAPTERS) for own in live)
