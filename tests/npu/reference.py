"""Plain answers in float64 that the simulator's are held against."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    keep: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T * scale + bias) v, [B, N, S, D]; keep: TRUE = SEE. Blind rows give 0."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(groups, 1) for x in (k, v))
    scores = torch.einsum("bnid,bnjd->bnij", q.double(), k) * scale
    if bias is not None:
        scores = scores + bias.double()
    weights = scores.exp()
    if keep is not None:
        weights = weights * keep.double()
    total = weights.sum(-1, keepdim=True)
    return torch.einsum("bnij,bnjd->bnid", weights / total.clamp_min(1e-300), v)


def seen(rows: int, keys: int, mode: int, before: int = 10**9, after: int = 10**9) -> Tensor:
    """[rows, keys]: what a sparse mode lets through, pair by pair as documented; TRUE = SEE."""
    keep = torch.zeros(rows, keys, dtype=torch.bool)
    for i in range(rows):
        for j in range(keys):
            from_left, from_right = j - i, (j - keys) - (i - rows)
            keep[i, j] = {
                0: -before <= from_left <= after,
                2: from_left <= 0,
                3: from_right <= 0,
                4: -before <= from_right <= after,
            }[mode]
    return keep


def close(got: Tensor, want: Tensor, tolerance: float = 1e-2) -> None:
    """Same shape, and values within the rounding of 16-bit inputs."""
    assert got.shape == want.shape
    torch.testing.assert_close(got.cpu().double(), want.double(), rtol=tolerance, atol=tolerance)
