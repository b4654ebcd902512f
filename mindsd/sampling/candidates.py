"""The tokens that top_k, top_p and min_p leave, and one of them.

In a row sorted by logit (the lower token first among equal ones) each of the three keeps the first
few, so a row is settled as soon as the likeliest tokens that were looked at reach beyond what it
keeps. A full sort of a large vocabulary takes milliseconds; 64 or 1024 tokens suffice for nearly
every row, and give the same token as the full sort.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

WIDTHS = (64, 1024)  # tried before the whole vocabulary


class Limits(NamedTuple):
    """What F rows keep, and where each draws. All of them float64 [F] but the first, int64 [F].

    Attributes:
        top_k: V or more is off.
        top_p: infinity is off, so that no rounding of a sum near 1 cuts anything.
        min_p: 0 is off.
        share: the uniform number of each row, in [0, 1).
    """

    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    share: torch.Tensor

    @classmethod
    def of(
        cls, asked: list[tuple[int, float, float]], share: torch.Tensor, vocabulary: int
    ) -> Limits:
        """From (top_k, top_p, min_p) of each row, as requests write them."""
        ks, ps, ms = zip(*asked, strict=True)
        device, double = share.device, torch.float64
        return cls(
            torch.tensor([min(k or vocabulary, vocabulary) for k in ks], device=device),
            torch.tensor([p if p < 1 else math.inf for p in ps], dtype=double, device=device),
            torch.tensor(ms, dtype=double, device=device),
            share,
        )


def draw_among(scores: torch.Tensor, probs: torch.Tensor, limits: Limits) -> torch.Tensor:
    """One token of each row, among those that its limits leave.

    Args:
        scores: [F, V] float32, divided by temperature.
        probs: [F, V] float32, their softmax.

    Returns:
        [F] int64.
    """
    vocabulary = scores.shape[-1]
    tokens = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    open_rows = torch.arange(len(scores), device=scores.device)
    for width in (*(w for w in WIDTHS if w < vocabulary), vocabulary):
        own = scores[open_rows]
        values, ids = leading(own, width)
        part = Limits(*(limit[open_rows] for limit in limits))
        count, settled = kept(values, probs[open_rows].gather(-1, ids), part, vocabulary)
        chosen = _invert(probs[open_rows].gather(-1, ids), count, part.share)
        tokens[open_rows] = ids.gather(-1, chosen)[:, 0]
        open_rows = open_rows[~settled]
        if not len(open_rows):
            break
    return tokens


def kept(
    values: torch.Tensor, weights: torch.Tensor, limits: Limits, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of the first tokens each row keeps, and whether that is certain.

    As transformers' warpers, one after the other: top_k keeps what equals the last one; top_p is of
    what top_k left and always keeps the likeliest; min_p is relative to the likeliest.

    Args:
        values: [F, W] scores, sorted as by `leading`.
        weights: [F, W] float32, their probabilities among the whole vocabulary.

    Returns:
        [F, 1] int64 counts from 1, and [F] bool.
    """
    width = values.shape[-1]
    k, p, m = (limit[:, None] for limit in limits[:3])
    mass = weights.cumsum(-1, dtype=torch.float64)
    count = (values >= values.gather(-1, k.clamp(max=width) - 1)).sum(-1, keepdim=True)
    whole = torch.where(k < vocabulary, mass.gather(-1, count - 1), 1.0)
    for keep in (mass - weights < p * whole, weights >= m * weights[:, :1], weights > 0):
        count = torch.minimum(count, keep.sum(-1, keepdim=True))
    if width == vocabulary:
        return count, torch.ones(len(values), dtype=torch.bool, device=values.device)
    beyond = values.gather(-1, count - 1) > values[:, -1:]  # else equal ones may be missing
    return count, (beyond & ((k == vocabulary) | (k <= width)))[:, 0]


def leading(scores: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first columns of a stable descending sort of each row, without sorting the rest.

    Where more tokens than fit equal the last column, which of them is left in is not defined.

    Args:
        scores: [R, V].
        width: how many, less if V is less.

    Returns:
        Values and tokens, [R, min(width, V)].
    """
    if width >= scores.shape[-1]:
        return scores.sort(stable=True, dim=-1, descending=True)
    values, ids = scores.topk(width, dim=-1)
    ids, by_id = ids.sort(dim=-1)
    values, by_value = values.gather(-1, by_id).sort(stable=True, dim=-1, descending=True)
    return values, ids.gather(-1, by_value)


def _invert(weights: torch.Tensor, count: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """[F, 1]: where the sum of the first `count` weights passes its share."""
    mass = weights.cumsum(-1, dtype=torch.float64)
    target = share[:, None] * mass.gather(-1, count - 1)
    return torch.minimum(torch.searchsorted(mass, target, right=True), count - 1)
