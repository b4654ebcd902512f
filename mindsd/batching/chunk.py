"""Tokens of sequences in one forward, and what the forward is given of them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.kvcache.step import Segment

from .sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence in the next forward.

    Attributes:
        start, stop: their positions; beyond the sequence's own tokens is its draft.
        draws: whether the last of them (and all of the draft) says which token comes next.
    """

    sequence: Sequence
    start: int
    stop: int
    draws: bool

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def divisible(self) -> bool:
        """Whether fewer tokens could be computed instead."""
        half = self.length // 2
        return 0 < half and self.sequence.whole(self.start, half) < self.length

    def features(self) -> tuple[Tensor, ...]:
        """What is seen in the place of those that stand for images; () for none."""
        images = self.sequence.images
        return () if images is None else images.between(self.start, self.stop)

    def rotary(self) -> Tensor:
        """int64 [3, length]: their positions in time, height and width (M-RoPE)."""
        images = self.sequence.images
        if images is None:
            return torch.arange(self.start, self.stop).expand(3, -1)
        return images.positions(self.start, self.stop)

    def tokens(self) -> list[int]:
        own = self.sequence
        return [*own.tokens[self.start : self.stop], *own.draft[: self.stop - len(own.tokens)]]


@dataclass(frozen=True, eq=False)
class Packed:
    """Chunks end to end, as a model takes them.

    Attributes:
        segments: where each chunk lies.
        ids: int64 [1, T].
        positions: int64 [1, T], or [4, 1, T]: of the text, and in time, height and width (M-RoPE).
        index: int64 [R], the tokens whose logits are wanted: for each chunk that draws, the last
            known token and its draft. The last token of all where nothing draws.
        features: of the tokens that stand for images, [n, dim] each; empty for none.
    """

    segments: list[Segment]
    ids: Tensor
    positions: Tensor
    index: Tensor
    features: tuple[Tensor, ...]


def pack(chunks: Many[Chunk], device: torch.device, axes: int = 1) -> Packed:
    """What a forward of these chunks is given.

    Args:
        axes: of positions, 1 or 4.
    """
    segments, start = [], 0
    for chunk in chunks:
        own = chunk.sequence
        whole = own.images.spans(chunk.start, chunk.stop) if own.images is not None else ()
        blocks = own.table.blocks
        segments.append(Segment(start, chunk.length, chunk.start, blocks, own.adapter, whole))
        start += chunk.length
    ids = [token for chunk in chunks for token in chunk.tokens()]
    wanted = [
        place
        for chunk, segment in zip(chunks, segments, strict=True)
        for place in _drawing(chunk, segment)
    ]
    return Packed(
        segments,
        torch.tensor([ids], device=device),
        _positions(chunks, axes).to(device),
        torch.tensor(wanted or [len(ids) - 1], device=device),
        _features(chunks),
    )


def _positions(chunks: Many[Chunk], axes: int) -> Tensor:
    text = torch.tensor([[at for chunk in chunks for at in range(chunk.start, chunk.stop)]])
    if axes == 1:
        return text
    return torch.cat([text, torch.cat([chunk.rotary() for chunk in chunks], 1)])[:, None]


def _features(chunks: Many[Chunk]) -> tuple[Tensor, ...]:
    found = [chunk.features() for chunk in chunks]
    columns = zip(*(own for own in found if own), strict=True)
    return tuple(torch.cat(column) for column in columns)


def _drawing(chunk: Chunk, segment: Segment) -> Iterable[int]:
    if not chunk.draws:
        return ()
    known = len(chunk.sequence.tokens) - chunk.start
    return range(segment.start + known - 1, segment.stop)
