"""softmax(q k^T) v in float32, as all attention operators share it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Attended(NamedTuple):
    """Attributes: out [B, N, S, Dv] in q's dtype; top and total [B, N, S, 1] float32, the
    largest score of each row and the sum of the exponentials after subtracting it."""

    out: Tensor
    top: Tensor
    total: Tensor

    @property
    def lse(self) -> Tensor:
        """[B, N, S, 1]; infinite for rows that see nothing, as the operators document it."""
        return torch.where(self.total > 0, self.top + self.total.log(), torch.inf)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    drop: Tensor | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
) -> Attended:
    """softmax(q k^T * scale + bias) v; key heads are shared by groups of query heads.

    Args:
        q: [B, N, S, D].
        k: [B, Nkv, Skv, D].
        v: [B, Nkv, Skv, Dv].
        drop: bool, TRUE = DROP, broadcastable to [B, N, S, Skv]. Rows without a key give 0.
        bias: broadcastable to [B, N, S, Skv].
        sink: [N] float32, one more score per head whose value is 0.
    """
    batch, heads, rows, _ = q.shape
    if k.shape[2] == 0:
        nothing = torch.zeros(batch, heads, rows, 1)
        return Attended(q.new_zeros(batch, heads, rows, v.shape[3]), nothing, nothing)
    groups = heads // k.shape[1]
    k = k.float().repeat_interleave(groups, 1)
    v = v.float().repeat_interleave(groups, 1)
    scores = q.float() @ k.transpose(-1, -2) * scale
    if bias is not None:
        scores = scores + bias.float()
    if drop is not None:
        scores = scores.masked_fill(drop, -torch.inf)
    top = scores.amax(-1, keepdim=True)
    if sink is not None:
        top = torch.maximum(top, sink.float().view(1, -1, 1, 1))
    top = top.masked_fill(top == -torch.inf, 0.0)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    if sink is not None:
        total = total + torch.exp(sink.float().view(1, -1, 1, 1) - top)
    out = weights @ v / total.masked_fill(total == 0, 1.0)
    return Attended(out.to(q.dtype), top, total)
