"""The reference: plain torch operations, every call, in bounded memory.

It is written to be right and to be read, and is what a CPU without better kernels falls back on.
Being plain operations it runs on any device, so no machine is left without an answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .contract import Call
from .mask import NOTHING, full_mask

SCORES = 2**22  # attention scores alive at once: 16 MiB in float32


class Reference:
    """Computes in float32 (float64 when given float64) and rounds once, to the input dtype.

    Queries are taken in chunks so that no tensor of scores holds more than `scores` numbers, or
    one row per head and batch entry where that is more.
    """

    name = "reference"

    def __init__(self, scores: int = SCORES):
        self.scores = scores

    def refuses(self, call: Call) -> str | None:
        return None

    def run(self, call: Call) -> Tensor:
        with torch.autocast(call.q.device.type, enabled=False):
            return torch.cat([self._dense(part) for part in call.sequences()], dim=2)

    def _dense(self, call: Call) -> Tensor:
        batch, heads, tq, _ = call.q.shape
        wide = torch.float64 if call.q.dtype == torch.float64 else torch.float32
        k, v = call.k.to(wide), call.v.to(wide)
        out = call.q.new_zeros(batch, heads, tq, call.v.shape[3])
        per_row = batch * heads * call.k.shape[2]
        if per_row == 0:
            return out
        rows = max(1, self.scores // per_row)
        for start in range(0, tq, rows):
            stop = min(start + rows, tq)
            out[:, :, start:stop] = _attend(call, k, v, start, stop)
        return out


def _attend(call: Call, k: Tensor, v: Tensor, start: int, stop: int) -> Tensor:
    """Rows start..stop of a call: [B, H, rows, Dv] in k's dtype."""
    batch, heads, kv_heads = call.q.shape[0], call.q.shape[1], k.shape[1]
    q = call.q[:, :, start:stop].to(k.dtype) * call.scaling
    # Heads of one group share their keys: they become rows of one matrix instead of copies of k.
    scores = q.reshape(batch, kv_heads, -1, q.shape[3]) @ k.mT
    scores = scores.view(batch, heads, stop - start, k.shape[2])
    mask = full_mask(call, start, stop)
    if mask is None:
        weights = scores.softmax(-1)
    else:
        # Either way in place, so that the chunk stays the only tensor of its size but its softmax.
        scores = (
            scores.masked_fill_(~mask, NOTHING) if mask.dtype == torch.bool else scores.add_(mask)
        )
        blind = scores.amax(-1, keepdim=True) == NOTHING
        weights = scores.softmax(-1).masked_fill_(blind, 0)
    out = weights.view(batch, kv_heads, -1, k.shape[2]) @ v
    return out.view(batch, heads, stop - start, v.shape[3])
