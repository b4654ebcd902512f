"""How the segments of a step go through the paged operators of Ascend NPUs, made once per step.

    decode   [B, 1, H]   a token each; this branch of the operator ignores masks and windows
    chunk    [B, L, H]   several tokens of one length each, with the mask
    packed   [T, H, D]   tokens end to end, with the mask; only some head sizes

A token whose window has moved on must not take the decode branch. It is computed twice, side by
side, so that it takes the other one; the first of the two is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.kvcache.step import Segment, Step

from .paged_call import visible

MOST_PACKED = 4096  # sequences
DECODE, CHUNK, PACKED = "decode", "chunk", "packed"


@dataclass(frozen=True)
class Part:
    """One sequence of a step: its tokens there, its visible blocks, the keys in them.

    Attributes:
        start: where in the step its tokens begin.
        length: how many they are.
        blocks: the visible ones.
        keys: tokens in them, this step's included.
        twice: its only token is computed twice.
    """

    start: int
    length: int
    blocks: list[int]
    keys: int
    twice: bool = False

    @property
    def tokens(self) -> list[int]:
        """Places in the step, of every row that is computed."""
        rows = list(range(self.start, self.start + self.length))
        return rows * 2 if self.twice else rows


class Group:
    """What one operator call computes.

    Attributes:
        way: DECODE, CHUNK or PACKED.
        rows: int64 [R], the place in the step of every row of the call.
        kept: int64 [K], those rows of the call whose result counts.
        places: int64 [K], where in the step they belong.
        in_order: rows are the step's tokens as they stand, all of them.
        table: int32 [B, P] of blocks; a sequence with fewer has its first again.
        q_ends: where the sequences end in a packed call.
        keys: how many tokens each sequence has.
    """

    def __init__(self, way: str, parts: Sequence[Part], step: Step):
        self.way = way
        rows = [token for part in parts for token in part.tokens]
        kept: list[int] = []
        self.q_ends: list[int] = []
        end = 0
        for part in parts:
            kept += range(end + part.twice, end + part.twice + part.length)
            end += part.length + part.twice
            self.q_ends.append(end)
        self.keys = [part.keys for part in parts]
        self.in_order = rows == list(range(step.tokens))
        self.rows, self.kept = (torch.tensor(x, device=step.device) for x in (rows, kept))
        self.places = torch.tensor([rows[i] for i in kept], device=step.device)
        self.doubled = len(kept) < len(rows)
        most = max(len(part.blocks) for part in parts)
        padded = [part.blocks + part.blocks[:1] * (most - len(part.blocks)) for part in parts]
        self.table = torch.tensor(padded, dtype=torch.int32, device=step.device)

    def __len__(self) -> int:
        return len(self.keys)


def groups(
    step: Step, lane: int, segments: Sequence[Segment], window: int | None, packs: bool, sunk: bool
) -> list[Group]:
    """The calls that answer for these segments.

    Args:
        window: as of a `Sight`.
        packs: whether the head sizes go through packed.
        sunk: there are sinks, which only packed calls know.
    """
    parts = [_part(step, lane, own, window) for own in segments]
    if packs and (sunk or any(part.length > 1 or part.twice for part in parts)):
        return [Group(PACKED, own, step) for own in _fitting(parts, step, lane)]
    single = [part for part in parts if part.length == 1 and not part.twice]
    double = [part for part in parts if part.twice]
    found = [Group(DECODE, own, step) for own in _fitting(single, step, lane)]
    found += [Group(CHUNK, own, step) for own in _fitting(double, step, lane)]
    return found + [Group(CHUNK, [part], step) for part in parts if part.length > 1]


def _part(step: Step, lane: int, segment: Segment, window: int | None) -> Part:
    first, blocks = visible(step, lane, segment)
    moved = window is not None and segment.length == 1 and segment.total > window
    return Part(segment.start, segment.length, blocks, segment.total - first, moved)


def _fitting(parts: Sequence[Part], step: Step, lane: int) -> Iterator[list[Part]]:
    """As few lists as may be: all tables of a call together name no more blocks than there are
    (documented; sequences that share blocks count them each)."""
    room = step.lanes[lane].pool.total
    own: list[Part] = []
    used = 0
    for part in parts:
        if own and (used + len(part.blocks) > room or len(own) == MOST_PACKED):
            yield own
            own, used = [], 0
        own.append(part)
        used += len(part.blocks)
    if own:
        yield own


def put(out: Tensor, group: Group, found: Tensor) -> None:
    """Into `out` [T, ...] what a call found for its rows [R, ...]."""
    out.index_copy_(0, group.places, found.index_select(0, group.kept) if group.doubled else found)
