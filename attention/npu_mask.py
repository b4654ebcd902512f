"""What a call hides, as the operators of Ascend NPUs want it said.

Their bool masks are the other way round (True = drop), and never broadcast over queries: they are
[B | 1, H | 1, Tq, Tk]. Causality and windows need no mask of their own: a triangle of 2048 x 2048
stands for all sizes, and a sparse mode says how to read it (documentation of npu_fusion_attention).

An additive mask becomes two tensors: what it forbids (-inf) is dropped, the rest is the `pse` bias.
Whether it holds nothing but 0 and -inf, and could do without the bias, only its numbers say; to
look at them would halt the host in every call until the device has caught up. So nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .contract import Call
from .mask import NOTHING, full_mask

FAR = 2147483647  # no limit of tokens before or after
SIDE = 2048
WHOLE, CAUSAL, BAND = 0, 3, 4  # sparse modes; both others count from the bottom right
CORRECTED = 2  # inner_precise: rows that see nothing give zeros

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Hidden:
    """What is hidden from whom.

    Attributes:
        drop: bool, True = drop: [B | 1, H | 1, Tq, Tk], or the triangle; None hides nothing.
        bias: [B | 1, H, Tq, Tk] or [B, H, 1, Tk] in q's dtype, added to the scaled scores.
        mode: the sparse mode.
        before, after: how far a row sees, in mode `BAND`.
        precise: inner_precise.
    """

    drop: Tensor | None = None
    bias: Tensor | None = None
    mode: int = WHOLE
    before: int = FAR
    after: int = FAR
    precise: int = 0


def hidden(call: Call, memory: MaskMemory) -> Hidden:
    """What a call that is not packed hides."""
    if call.mask is None:
        return reach(call, blind=any_blind(call.band, call.q.shape[2], call.k.shape[2]))
    key = (call.q.shape, call.k.shape[2], call.band, call.q.dtype)
    drop, bias = memory.of(call.mask, key, lambda: _split(call))
    return Hidden(drop, bias, precise=CORRECTED)


def reach(call: Call, blind: bool) -> Hidden:
    """What causality and window of a call hide.

    Args:
        blind: whether a row may see nothing.
    """
    left, right = call.band
    if left < 0 and right < 0:
        return Hidden()
    precise = CORRECTED if blind else 0
    if left < 0 and right == 0:
        return Hidden(triangle(call.q.device), mode=CAUSAL, precise=precise)
    before, after = (FAR if limit < 0 else limit for limit in (left, right))
    return Hidden(triangle(call.q.device), None, BAND, before, after, precise)


def any_blind(band: tuple[int, int], queries: int, keys: int) -> bool:
    """Whether the first row, which stands farthest to the left, sees nothing."""
    return queries > 0 and (keys == 0 or 0 <= band[1] < queries - keys)


@lru_cache
def triangle(device: torch.device) -> Tensor:
    """[2048, 2048] bool: True above the diagonal."""
    with torch.inference_mode(False):
        return torch.ones(SIDE, SIDE, dtype=torch.bool, device=device).triu(1)


def drop_of(call: Call) -> Tensor | None:
    """Bool mask, causality and window as one, True = drop: [B | 1, H | 1, Tq, Tk], contiguous."""
    mask = full_mask(call)
    return None if mask is None else _spread(~mask, call)


def _split(call: Call) -> tuple[Tensor, Tensor | None]:
    """What is dropped, and the bias that remains of an additive mask."""
    mask = full_mask(call)
    assert mask is not None
    if mask.dtype == torch.bool:
        return _spread(~mask, call), None
    batch, heads, queries, _ = mask.shape
    sizes = [batch, call.q.shape[1], queries, call.k.shape[2]]
    if queries < call.q.shape[2]:  # the same for all queries: documented with all of the batch only
        sizes[0] = call.q.shape[0]
    bias = mask.clamp(min=torch.finfo(mask.dtype).min).expand(sizes).contiguous()
    return _spread(mask == NOTHING, call), bias


def _spread(drop: Tensor, call: Call) -> Tensor:
    """As one of the documented shapes: [B, H, ..], [B, 1, ..] or [1, 1, ..]."""
    drop = drop.reshape((1,) * (4 - drop.dim()) + drop.shape)
    batch, heads = drop.shape[:2]
    batch = call.q.shape[0] if heads > 1 else batch
    return drop.expand(batch, heads, call.q.shape[2], call.k.shape[2]).contiguous()


class MaskMemory:
    """What masks became, for as long as they live and nobody changes them.

    Changes in place are seen by torch's version counter. Tensors that were made in inference mode
    have none: what they become is made anew each time, by two small kernels.
    """

    def __init__(self) -> None:
        self._made = WeakTensorKeyDictionary()

    def of(self, mask: Tensor, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives, made once for a mask and a key."""
        base = mask if mask._base is None else mask._base
        if base.is_inference():
            return make()
        state = (base._version, mask.shape, mask.stride(), mask.storage_offset(), key)
        found = self._made.get(base)
        if found is None or found[0] != state:
            self._made[base] = found = (state, make())
        return found[1]
