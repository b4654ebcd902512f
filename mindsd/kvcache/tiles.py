"""A step cut into tiles of tokens, as kernels that read pages by themselves are told of it.

    segments    | d | e | f f f | p p p p p p p |      at most 4 tokens to a tile
    tiles       | d | e | f f f | p p p p | p p p |

A tile's tokens are of one sequence and read the same pages. Everything is integers in tensors on
the device: a kernel that was recorded with them reads whatever they hold when it runs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .step import Segment, Step

FIELDS = 4  # integers that say what a tile is
LONG = 16  # tokens of a tile, where segments are longer than one


@dataclass(frozen=True, eq=False)
class Tiles:
    """What the tiles of a step are.

    Attributes:
        fields: int64 [N, 4]: a tile's first token in the row, how many tokens it has, the position
            of the first in its sequence, and where in `table` its sequence's blocks begin.
        table: int64, the block numbers of all sequences end to end.
        most: tokens of the longest tile.
    """

    fields: Tensor
    table: Tensor
    most: int

    def __len__(self) -> int:
        return len(self.fields)


def tile_integers(
    segments: Sequence[Segment], lane: int, size: int, most: int
) -> tuple[list[int], list[int]]:
    """The integers of `Tiles.fields`, tile after tile, and of `Tiles.table`.

    Args:
        size: tokens of a block.
        most: tokens of a tile.
    """
    fields: list[int] = []
    table: list[int] = []
    for own in segments:
        first = len(table)
        table += own.blocks[lane][: -(-own.total // size)]
        for done in range(0, own.length, most):
            count = min(most, own.length - done)
            fields += (own.start + done, count, own.past + done, first)
    return fields, table


def tiles_of(step: Step, lane: int, most: int) -> Tiles:
    """The tiles of a step, of at most so many tokens."""
    fields, table = tile_integers(step.segments, lane, step.pages.size, most)
    both = torch.tensor([*fields, *table], device=step.device)
    return Tiles(both[: len(fields)].view(-1, FIELDS), both[len(fields) :], most)


def tile_of(step: Step) -> int:
    """Tokens of a tile: one, where every segment is one token."""
    return 1 if max(own.length for own in step.segments) == 1 else LONG


def tiles_key(lane: int, most: int) -> tuple[str, int, int]:
    """What a step's plan calls them."""
    return ("tiles", lane, most)
