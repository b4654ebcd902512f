"""The mask, causality and window of a call as one tensor, and the rows that see nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from .contract import Call

NOTHING = float("-inf")


def full_mask(call: Call, start: int = 0, stop: int | None = None) -> Tensor | None:
    """What query rows start..stop may see: bool or additive, broadcastable to [B, H, rows, Tk].

    None when every row sees every key. Not for packed calls.
    """
    stop = call.q.shape[2] if stop is None else stop
    band, mask = _band(call, start, stop), call.mask
    if mask is None:
        return band
    if mask.shape[2] != 1:
        mask = mask[:, :, start:stop]
    if band is None:
        return mask
    return mask & band if mask.dtype == torch.bool else mask.masked_fill(~band, NOTHING)


def blind_rows(mask: Tensor) -> Tensor:
    """Rows that may attend to nothing: bool, the mask's shape with 1 as the last size."""
    sees = mask if mask.dtype == torch.bool else mask > NOTHING
    return ~sees.any(-1, keepdim=True)


def _band(call: Call, start: int, stop: int) -> Tensor | None:
    """Causality and window for these rows: bool [rows, Tk], bottom-right aligned."""
    left, right = call.band
    if left < 0 and right < 0:
        return None
    tq, tk = call.q.shape[2], call.k.shape[2]
    device = call.q.device
    row = torch.arange(start, stop, device=device).unsqueeze(1) + (tk - tq)
    key = torch.arange(tk, device=device).unsqueeze(0)
    sees = torch.ones(stop - start, tk, dtype=torch.bool, device=device)
    if left >= 0:
        sees &= key >= row - left
    if right >= 0:
        sees &= key <= row + right
    return sees
