"""The tensors of a step that stays: a recorded forward reads them, whoever's tokens are in them.

    tokens    a  b  b  b  c  c  c  c  c  .  .  .      three sequences in a shape of twelve
    tiles     a | b  b  b | c  c  c  c | c | .  .  . | (none) |
    logits    of a, of the last b, of the last c, (of anything)

What attends to what is said by integers (kvcache/tiles.py). Tokens that are left over are a text of
nobody's in a spare block, so all numbers stay finite; tiles that are left over have no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.kvcache.step import Segment, Step, slots_of
from mindsd.kvcache.tiles import FIELDS, Tiles, tile_integers, tiles_key


@dataclass(frozen=True)
class Shape:
    """How much a frame holds.

    Attributes:
        tokens, rows: at most; rows are tokens whose logits are wanted.
        tile: tokens of one.
        sequences: at most, where tiles have several tokens.
        axes: leading dimensions of positions.
    """

    tokens: int
    rows: int
    tile: int
    sequences: int
    axes: torch.Size

    @property
    def tiles(self) -> int:
        """Of so many sequences and what is left over; each may end in the midst of a tile."""
        if self.tile == 1:
            return self.tokens
        return self.tokens // self.tile + self.sequences + 1


class Frame:
    """A step of a shape.

    Attributes:
        step: what attention sees.
        ids, positions, index: what the model is given.

    Args:
        like: a step of the same cache.
        room: block numbers that it holds.
    """

    def __init__(self, shape: Shape, like: Step, room: int):
        device, self.shape = like.device, shape
        integers = {"dtype": torch.int64, "device": device}
        self.ids = torch.zeros(1, shape.tokens, **integers)
        self.positions = torch.zeros(*shape.axes, shape.tokens, **integers)
        self.index = torch.zeros(shape.rows, **integers)
        self.step = Step(_segments(shape), like.pages, like.lanes, device)
        self._table = shape.tokens + FIELDS * shape.tiles  # where it begins
        self._integers = torch.zeros(len(like.lanes), self._table + room, **integers)
        self.step.slots = [own[: shape.tokens] for own in self._integers]
        for lane, own in enumerate(self._integers):
            fields = own[shape.tokens : self._table].view(-1, FIELDS)
            tiles = Tiles(fields, own[self._table :], shape.tile)
            self.step.plans[tiles_key(lane, shape.tile)] = tiles

    def fill(self, step: Step, ids: Tensor, positions: Tensor, index: Tensor) -> bool:
        """Take a step's tokens in; false where its blocks are too many."""
        integers = [self._lane(step, lane) for lane in range(len(step.lanes))]
        width = max(map(len, integers))
        if width > self._integers.shape[1]:
            return False
        padded = [own + [0] * (width - len(own)) for own in integers]
        self._integers[:, :width].copy_(torch.tensor(padded), non_blocking=True)
        for given, own in ((ids, self.ids), (positions, self.positions), (index, self.index)):
            number = given.shape[-1]
            own[..., :number] = given
            if number < own.shape[-1]:
                own[..., number:] = given[..., :1]
        return True

    def _lane(self, step: Step, lane: int) -> list[int]:
        """Slots, fields and table of a lane, end to end."""
        size, spare, segments = step.pages.size, self.shape.tokens - step.tokens, step.segments
        if spare:
            block = step.pages.spare(lane)
            nobodys = [[block] * -(-spare // size)] * len(step.lanes)
            segments = [*segments, Segment(step.tokens, spare, 0, nobodys)]
        fields, table = tile_integers(segments, lane, size, self.shape.tile)
        empty = [0] * (FIELDS * self.shape.tiles - len(fields))
        return [*slots_of(segments, lane, size), *fields, *empty, *table]


def _segments(shape: Shape) -> list[Segment]:
    """As long as those that it will stand for, with nothing in them."""
    if shape.tile == 1:
        return [Segment(row, 1, 0, ()) for row in range(shape.tokens)]
    return [Segment(0, shape.tokens, 0, ())]


def blocks_of(step: Step) -> int:
    """Block numbers that a step's tables hold."""
    size = step.pages.size
    return sum(-(-own.total // size) for own in step.segments)
