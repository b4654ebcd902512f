"""Bipartite soft matching of image tokens (ToMe for Stable Diffusion, arXiv:2303.17604).

    tokens on their grid, 2x2 cells       d s d s      one token of each cell, drawn at random from
                                          s s s s      the request's seed, is a destination (d);
                                          d s d s      the others (s) look for the destination that
                                          s s s s      is most alike; the r most alike pairs merge

A matching is made for one image and serves both guidance branches and many steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matching:
    """Which tokens of one image merge, int64 indices.

    Attributes:
        kept: [N - r] tokens that stay, destinations last.
        merged: [r] tokens that go into another.
        into: [r] where to, as places among the kept ones.
        shares: [N - r] how many tokens each kept one stands for, fp32.
    """

    kept: Tensor
    merged: Tensor
    into: Tensor
    shares: Tensor


def destinations(height: int, width: int, seed: int) -> Tensor:
    """One token of each 2x2 cell of the grid, bool [height * width]; drawn on the CPU."""
    rows, columns = height // 2, width // 2
    generator = torch.Generator().manual_seed(seed)
    choice = torch.randint(4, (rows, columns), generator=generator)
    y = torch.arange(rows)[:, None] * 2 + choice // 2
    x = torch.arange(columns) * 2 + choice % 2
    chosen = torch.zeros(height * width, dtype=torch.bool)
    chosen[(y * width + x).flatten()] = True
    return chosen


def match(tokens: Tensor, chosen: Tensor, merged: int) -> Matching:
    """The matching that merges the `merged` most alike tokens into destinations.

    Args:
        tokens: [N, C] of one image.
        chosen: [N] which are destinations, on the same device.
        merged: how many are merged; at most as many as are no destinations.
    """
    targets = chosen.nonzero().squeeze(1)
    sources = (~chosen).nonzero().squeeze(1)
    merged = min(merged, len(sources))
    alike = torch.nn.functional.normalize(tokens.float(), dim=-1)
    best, nearest = (alike[sources] @ alike[targets].T).max(dim=-1)
    order = best.argsort(descending=True, stable=True)
    gone, stay = order[:merged], order[merged:]
    kept = torch.cat([sources[stay], targets])
    into = len(stay) + nearest[gone]
    ones = torch.ones(merged, device=tokens.device)
    shares = torch.ones(len(kept), device=tokens.device).index_add_(0, into, ones)
    return Matching(kept, sources[gone], into, shares)


@dataclass(frozen=True)
class Matchings:
    """Those of all rows of a forward, stacked: [B, N - r], [B, r], [B, r], [B, N - r, 1]."""

    kept: Tensor
    merged: Tensor
    into: Tensor
    shares: Tensor

    @classmethod
    def of(cls, rows: list[Matching]) -> Matchings:
        """All rows must have merged equally many."""
        return cls(
            torch.stack([row.kept for row in rows]),
            torch.stack([row.merged for row in rows]),
            torch.stack([row.into for row in rows]),
            torch.stack([row.shares for row in rows])[..., None],
        )

    def merge(self, tokens: Tensor) -> Tensor:
        """[B, N, C] to [B, N - r, C]: each kept token is the mean of those that went into it."""
        wide = tokens.shape[-1]
        kept = tokens.gather(1, _across(self.kept, wide))
        gone = tokens.gather(1, _across(self.merged, wide))
        total = kept.scatter_add(1, _across(self.into, wide), gone)
        return total / self.shares.to(tokens.dtype)

    def unmerge(self, merged: Tensor) -> Tensor:
        """[B, N - r, C] to [B, N, C]: merged tokens take what became of theirs."""
        wide = merged.shape[-1]
        tokens = merged.shape[1] + self.merged.shape[1]
        whole = merged.new_empty(merged.shape[0], tokens, wide)
        whole.scatter_(1, _across(self.kept, wide), merged)
        gone = merged.gather(1, _across(self.into, wide))
        return whole.scatter_(1, _across(self.merged, wide), gone)


def _across(index: Tensor, wide: int) -> Tensor:
    return index[..., None].expand(-1, -1, wide)
