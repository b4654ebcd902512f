"""A step in tiles: every token once, with its position and its sequence's blocks."""

from __future__ import annotations

import torch

from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import Lane
from mindsd.kvcache.tiles import tiles_of

SIZE = 4


def step() -> Step:
    segments = [
        Segment(0, 1, 9, [[7, 2, 5], [0, 1, 3]]),
        Segment(1, 6, 3, [[4, 6, 8], [9, 10, 11]]),
    ]
    lanes = [Lane(BlockPool(12, SIZE), None), Lane(BlockPool(12, SIZE), 8)]
    return Step(segments, PageStore([12, 12], SIZE, [0, 1], "auto"), lanes, torch.device("cpu"))


def test_a_tile_is_so_many_tokens_of_one_sequence():
    tiles = tiles_of(step(), 0, 4)
    assert tiles.fields.tolist() == [[0, 1, 9, 0], [1, 4, 3, 3], [5, 2, 7, 3]]
    assert tiles.table.tolist() == [7, 2, 5, 4, 6, 8]
    assert len(tiles) == 3 and tiles.most == 4


def test_a_lane_has_its_own_blocks():
    assert tiles_of(step(), 1, 4).table.tolist() == [0, 1, 3, 9, 10, 11]


def test_tokens_one_by_one():
    fields = tiles_of(step(), 0, 1).fields
    assert fields[:, 0].tolist() == list(range(7))
    assert fields[:, 1].tolist() == [1] * 7
    assert fields[:, 2].tolist() == [9, 3, 4, 5, 6, 7, 8]
