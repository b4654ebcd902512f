"""Tables: prefixes found again, copies where others read, windows that give blocks back."""

from __future__ import annotations

import pytest

from mindsd.kvcache.blocks import BlockPool, NoBlocks
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import GONE, BlockTable, Lane

SIZE = 4
TEXT = list(range(100, 118))


def lanes(*windows: int | None, total: int = 16) -> list[Lane]:
    return [Lane(BlockPool(total, SIZE), window) for window in windows]


def written(own: list[Lane], tokens: list[int], salt: str = "") -> BlockTable:
    table = BlockTable(own, root(salt))
    table.reserve(table.reuse(tokens)[0], len(tokens))
    table.computed(tokens, len(tokens))
    return table


def test_a_prefix_is_found_again_while_used_and_when_free():
    own = lanes(None)
    first = written(own, TEXT)
    second = BlockTable(own, root())
    assert second.reuse(TEXT[:8] + [1, 2, 3, 4]) == (8, [])
    assert second.blocks[0] == first.blocks[0][:2]
    second.free()
    first.free()
    third = BlockTable(own, root())
    assert third.reuse(TEXT) == (16, [])
    third.free()
    own[0].pool.check()
    assert own[0].pool.counts[1] == 0


def test_a_token_is_always_left_to_compute():
    own = lanes(None)
    written(own, TEXT[:16])
    count, [copy] = BlockTable(own, root()).reuse(TEXT[:16])
    assert (count, copy.source) == (15, 3)


def test_a_block_that_only_begins_alike_is_copied():
    own = lanes(None, 6)
    first = written(own, TEXT)
    second = BlockTable(own, root())
    count, copies = second.reuse([*TEXT[:14], 1, 2, 3, 4])
    assert count == 14
    assert [(copy.lane, copy.source) for copy in copies] == [
        (0, first.blocks[0][3]),
        (1, first.blocks[1][3]),
    ]
    assert [blocks[3] for blocks in second.blocks] == [copy.target for copy in copies]
    second.reserve(14, 18)
    second.computed([*TEXT[:14], 1, 2, 3, 4], 18)
    second.free()
    first.free()
    for lane in own:
        lane.pool.check()
        assert lane.pool.counts[1] == 0


def test_no_copy_where_there_is_no_room():
    own = lanes(None, total=5)
    written(own, TEXT)
    second = BlockTable(own, root())
    assert second.reuse([*TEXT[:14], 1, 2]) == (12, [])
    second.free()
    own[0].pool.check()


def test_other_salt_shares_nothing():
    own = lanes(None)
    written(own, TEXT)
    assert BlockTable(own, root("adapter")).reuse(TEXT) == (0, [])


def test_the_same_tokens_after_others_are_not_the_same():
    own = lanes(None)
    written(own, TEXT)
    assert BlockTable(own, root()).reuse(TEXT[4:]) == (0, [])


def test_who_parts_copies_only_the_block_it_writes_to():
    own = lanes(None)
    first = written(own, TEXT)  # 18 tokens: the last block is partly full
    twin = first.fork()
    [copy] = twin.reserve(18, 19)
    assert copy.source == first.blocks[0][4] and copy.target == twin.blocks[0][4]
    assert twin.blocks[0][:4] == first.blocks[0][:4]
    assert first.reserve(18, 19) == []  # alone again: it writes where it is
    twin.free()
    first.free()
    assert own[0].pool.counts[1] == 0


def test_nothing_changes_when_there_is_no_room():
    own = lanes(None, total=5)
    first = written(own, TEXT)
    twin = first.fork()
    before = list(twin.blocks[0])
    with pytest.raises(NoBlocks):
        twin.reserve(18, 19)
    assert twin.blocks[0] == before and own[0].pool.counts == (0, 5, 0)


def test_a_window_gives_back_what_it_no_longer_sees_and_other_lanes_keep_theirs():
    own = lanes(None, 6)
    table = written(own, TEXT)
    assert GONE not in table.blocks[0]
    # The token at 18 sees 13 to 18: the block of 12 to 15 is the first that it needs.
    assert [block == GONE for block in table.blocks[1]] == [True, True, True, False, False]
    assert own[1].pool.counts[1] == 2
    table.free()
    for lane in own:
        lane.pool.check()


def test_a_prefix_needs_only_what_the_window_sees():
    own = lanes(None, 6)
    written(own, TEXT).free()
    own[1].pool.take(13)  # 3 left: the blocks given back first are gone
    again = BlockTable(own, root())
    assert again.reuse(TEXT) == (16, [])
    assert again.blocks[1][:2] == [GONE, GONE] and GONE not in again.blocks[1][2:]


def test_a_prefix_whose_window_is_gone_is_shorter():
    own = lanes(None, 6)
    written(own, TEXT).free()
    own[1].pool.take(16)
    assert BlockTable(own, root()).reuse(TEXT) == (0, [])


def test_cut_gives_back_what_a_draft_got_wrong():
    own = lanes(None)
    table = written(own, TEXT[:6])
    table.reserve(6, 15)
    table.cut(7)
    assert len(table.blocks[0]) == 2 and own[0].pool.counts[1] == 2
    table.computed([*TEXT[:6], 1, 2], 8)
    assert own[0].pool.find(table._chain[1]) == table.blocks[0][1]
