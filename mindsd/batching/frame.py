"""The tensors of a step that stays: a recorded forward reads them, whoever's tokens are in them.

    row       0     1     2     3     4     5     6     7
    tokens    a     b     b     c     a     a     a     a      three sequences, a bucket of eight

Every token is a row of its own: what it attends to is said by integers (kvcache/tiles.py). Rows
that are left over repeat the first: they write what it writes, and nobody asks for their logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.tiles import FIELDS, Tiles, tile_integers, tiles_key


class Frame:
    """A step of `rows` tokens.

    Attributes:
        step: what attention sees.
        ids, positions, index: what the model is given.

    Args:
        rows: tokens that it has room for.
        like: a step of the same cache.
        positions: of that step; their leading dimensions stay.
        room: block numbers that fit.
    """

    def __init__(self, rows: int, like: Step, positions: Tensor, room: int):
        device, self._rows, self._room = like.device, rows, room
        self.ids = torch.zeros(1, rows, dtype=torch.int64, device=device)
        self.positions = positions.new_zeros(*positions.shape[:-1], rows)
        self.index = torch.arange(rows, device=device)
        segments = [Segment(row, 1, 0, ()) for row in range(rows)]
        self.step = Step(segments, like.pages, like.lanes, device)
        width = (1 + FIELDS) * rows + room
        self._integers = torch.zeros(len(like.lanes), width, dtype=torch.int64, device=device)
        self._again: dict[int, Tensor] = {}
        self.step.slots = [own[:rows] for own in self._integers]
        for lane, own in enumerate(self._integers):
            fields, table = own[rows : (1 + FIELDS) * rows], own[(1 + FIELDS) * rows :]
            self.step.plans[tiles_key(lane, 1)] = Tiles(fields.view(rows, FIELDS), table, 1)

    def fill(self, step: Step, ids: Tensor, positions: Tensor) -> bool:
        """Take a step's tokens in; false where its blocks are too many."""
        rows, tokens = self._rows, ids.shape[1]
        integers = [self._lane(step, lane, tokens) for lane in range(len(step.lanes))]
        width = max(map(len, integers))
        if width > self._integers.shape[1]:
            return False
        padded = [own + [0] * (width - len(own)) for own in integers]
        given = torch.tensor(padded)
        self._integers[:, :width].copy_(given, non_blocking=True)
        if tokens not in self._again:
            places = [*range(tokens), *[0] * (rows - tokens)]
            self._again[tokens] = torch.tensor(places, device=step.device)
        torch.index_select(ids, -1, self._again[tokens], out=self.ids)
        torch.index_select(positions, -1, self._again[tokens], out=self.positions)
        return True

    def _lane(self, step: Step, lane: int, tokens: int) -> list[int]:
        """Slots, fields and table of a lane, end to end."""
        size, spare = step.pages.size, self._rows - tokens
        fields, table = tile_integers(step.segments, lane, size, 1)
        slots: list[int] = []
        for place in range(0, len(fields), FIELDS):
            past, first = fields[place + 2], fields[place + 3]
            slots.append(table[first + past // size] * size + past % size)
        for row in range(tokens, self._rows):
            fields += (row, *fields[1:FIELDS])
        return [*slots, *slots[:1] * spare, *fields, *table]


def blocks_of(step: Step) -> int:
    """Block numbers that a step's tables hold."""
    size = step.pages.size
    return sum(-(-own.total // size) for own in step.segments)
