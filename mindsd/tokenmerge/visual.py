"""Fewer image tokens for a language model to read: alike ones merged, or only diverse ones kept.

    tokens of a picture   a a a b a a c c     the background is said again and again

    match     a     b     c      alike tokens become their mean (ToMe, arXiv:2210.09461)
    diverse   a . . b . . c .    those most unlike each other stay as they are (DivPrune,
                                 arXiv:2503.02175)

Both look at the picture alone and not at what is asked, so that the next question about the same
picture finds its tokens in the cache: pruning by the question's attention (FastV, arXiv:2403.06764)
would give every question tokens of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.errors import RequestError

from .match import match

WAYS = ("match", "diverse")
MOST = {"match": 0.75, "diverse": 0.95}  # every fourth token is one that others merge into
STRIDE = 4
LEAST = 4  # tokens of a picture that stay


@dataclass(frozen=True)
class VisualMerge:
    """How many image tokens a language model reads.

    Attributes:
        ratio: share of a picture's tokens that go, above 0 to 0.75 (match) or 0.95 (diverse).
        way: "match" or "diverse".
    """

    ratio: float = 0.5
    way: str = "match"

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise RequestError(f"image tokens are merged by {' or '.join(WAYS)}, not {self.way!r}")
        real = isinstance(self.ratio, int | float) and not isinstance(self.ratio, bool)
        most = MOST[self.way]
        if not real or not 0 < self.ratio <= most:  # false for what is no number, too
            raise RequestError(
                f"the share of image tokens that go is above 0 up to {most} by {self.way}, got "
                f"{self.ratio!r}"
            )

    @classmethod
    def parse(cls, text: str) -> VisualMerge:
        """From "0.5" (match) or "diverse:0.5".

        Raises:
            RequestError: it is neither.
        """
        way, _, share = text.rpartition(":")
        try:
            ratio = float(share)
        except ValueError:
            raise RequestError(
                f"image token merge {text!r} is neither a share like 0.5 nor diverse:0.5"
            ) from None
        return cls(ratio, way or "match")

    def __str__(self) -> str:
        """The text that `parse` reads; different merges have different ones."""
        share = repr(float(self.ratio))
        return share if self.way == "match" else f"{self.way}:{share}"

    def left(self, tokens: int) -> int:
        """How many of a picture's tokens stay."""
        return tokens - self._gone(tokens)

    def apply(self, features: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A picture's tokens with fewer of them.

        Args:
            features: [n, dim] of the vision tower's output, by which they are compared, and of
                deeper layers, which follow.

        Returns:
            which of the places stay, int64 [left(n)] ascending; and their features.
        """
        first = features[0]
        gone = self._gone(len(first))
        if not gone:
            return torch.arange(len(first), device=first.device), features
        if self.way == "diverse":
            kept = diverse(first, len(first) - gone).sort().values
            return kept, tuple(own[kept] for own in features)
        return _matched(features, gone)

    def _gone(self, tokens: int) -> int:
        most = tokens - -(-tokens // STRIDE) if self.way == "match" else tokens
        return max(0, min(int(tokens * self.ratio), most, tokens - LEAST))


def diverse(tokens: Tensor, number: int) -> Tensor:
    """The places of so many of [n, dim] tokens, each the one most unlike all chosen before it.

    Greedy max-min of cosine distances, as DivPrune does it; the first is the token whose nearest
    other token is farthest away.
    """
    wide = torch.nn.functional.normalize(tokens.float(), dim=-1)
    apart = 1 - wide @ wide.T
    apart.fill_diagonal_(math.inf)
    chosen = [int(apart.min(1).values.argmax())]
    apart.fill_diagonal_(0)
    nearest = apart[chosen[0]].clone()
    while len(chosen) < number:
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, apart[chosen[-1]])
    return torch.tensor(chosen, device=tokens.device)


def _matched(features: tuple[Tensor, ...], gone: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    first = features[0]
    chosen = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    chosen[::STRIDE] = True
    found = match(first, chosen, gone)
    kept, order = found.kept.sort()
    shares = found.shares[order, None]
    merged = []
    for own in features:
        total = own[found.kept].float().index_add_(0, found.into, own[found.merged].float())
        merged.append((total[order] / shares).to(own.dtype))
    return kept, tuple(merged)
