"""Drafts leave to others what is theirs."""

from __future__ import annotations

import pytest

from mindsd.batching.sequence import Sequence
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.sampling.drawing import Drawing
from mindsd.sampling.parameters import Sampling
from mindsd.speculative.room import draft_rooms

SIZE = 4


def decoding(lanes: list[Lane], tokens: int, most: int = 100) -> Sequence:
    table = BlockTable(lanes, root())
    table.reserve(0, tokens - 1)
    draws = Drawing(Sampling(max_tokens=most), 1, 1)
    return Sequence([7] * tokens, 1, table, draws, computed=tokens - 1)


def test_nobody_drafts():
    assert draft_rooms([], []) == []


def test_a_draft_and_the_token_after_it_stay_within_max_tokens():
    own = decoding([Lane(BlockPool(90, SIZE))], 13, most=17)  # five more tokens
    assert [draft_rooms([own], [wish]) for wish in (0, 3, 4, 9)] == [[0], [3], [4], [4]]


@pytest.mark.parametrize(
    "blocks, rooms", [(6, [3, 3]), (8, [3, 3]), (9, [7, 3]), (10, [8, 6]), (40, [8, 8])]
)
def test_only_blocks_that_nobody_needs_and_the_oldest_first(blocks, rooms):
    lanes = [Lane(BlockPool(blocks, SIZE))]
    own = [decoding(lanes, 13), decoding(lanes, 13)]  # three blocks each, and a fourth to come
    found = draft_rooms(own, [8, 8])
    assert draft_rooms(own[::-1], [8, 8]) == found[::-1]
    needed = sum(-(-(13 + room) // SIZE) - 3 for room in found)
    assert needed <= max(2, blocks - 6), "a draft takes a block that is not left"
    assert found[0] == rooms[0] and found[1] <= rooms[1] + 1


def test_the_scarcest_lane_decides():
    lanes = [Lane(BlockPool(40, SIZE)), Lane(BlockPool(5, SIZE), window=9)]
    own = decoding(lanes, 13)
    assert draft_rooms([own], [8]) == [7]


def test_all_drafts_together_have_a_bound():
    lanes = [Lane(BlockPool(90, SIZE))]
    own = [decoding(lanes, 5) for _ in range(4)]
    assert draft_rooms(own, [8, 0, 8, 8], tokens=12) == [8, 0, 4, 0]
