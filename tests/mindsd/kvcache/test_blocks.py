"""Blocks: one state each, the longest unused forgotten first, found by their hash until then."""

from __future__ import annotations

import pytest

from mindsd.errors import RequestError
from mindsd.kvcache.blocks import BlockPool, Known, NoBlocks


def known(key: bytes, tokens: tuple[int, ...] = (1, 2, 3, 4), parent: bytes = b"root") -> Known:
    return Known(key, parent, tokens)


def test_what_is_taken_comes_back():
    pool = BlockPool(3, 4)
    blocks = pool.take(3)
    assert sorted(blocks) == [0, 1, 2] and pool.counts == (0, 3, 0)
    with pytest.raises(NoBlocks, match="1 blocks are wanted, 0 of 3"):
        pool.take(1)
    for block in blocks:
        pool.release(block)
    assert pool.counts == (3, 0, 0)
    pool.check()


def test_too_many_take_nothing():
    pool = BlockPool(3, 4)
    pool.take(1)
    with pytest.raises(NoBlocks):
        pool.take(3)
    assert pool.counts == (2, 1, 0)


def test_a_named_block_is_found_until_its_room_is_needed():
    pool = BlockPool(2, 4)
    first, second = pool.take(2)
    assert pool.name(first, known(b"a")) == first and pool.name(second, known(b"b")) == second
    pool.release(first)
    pool.release(second)
    assert pool.counts == (0, 0, 2) and pool.available == 2
    assert pool.find(b"a") == first
    pool.hold(second)  # used again: the other one is the longest unused
    pool.release(second)
    assert pool.take(1) == [first]
    assert pool.find(b"a") is None and pool.find(b"b") == second
    pool.check()


def test_the_first_of_two_equal_blocks_is_found_and_the_other_is_freed():
    pool = BlockPool(2, 4)
    first, second = pool.take(2)
    pool.name(first, known(b"a"))
    assert pool.name(second, known(b"a")) == first
    pool.release(second)
    assert pool.counts == (1, 1, 0)
    pool.check()


def test_everything_may_be_forgotten_while_some_is_used():
    pool = BlockPool(2, 4)
    first, second = pool.take(2)
    pool.name(first, known(b"a"))
    pool.name(second, known(b"b"))
    pool.release(first)
    pool.forget()
    assert pool.counts == (1, 1, 0) and pool.find(b"b") is None
    pool.release(second)
    pool.check()


def test_a_release_too_many_is_our_mistake():
    pool = BlockPool(1, 4)
    [block] = pool.take(1)
    pool.release(block)
    with pytest.raises(AssertionError, match="once too often"):
        pool.release(block)


def test_a_pool_of_nothing_is_refused():
    with pytest.raises(RequestError, match="got 0 of 4"):
        BlockPool(0, 4)


def test_the_nearest_is_the_block_that_begins_most_alike():
    pool = BlockPool(4, 4)
    first, second, third = pool.take(3)
    pool.name(first, known(b"a", (1, 2, 3, 4)))
    pool.name(second, known(b"b", (1, 2, 5, 6)))
    pool.name(third, known(b"c", (1, 2, 3, 4), parent=b"other"))
    assert pool.nearest(b"root", (1, 2, 5)) == (b"b", 3)
    assert pool.nearest(b"root", (1, 2, 3, 4, 9)) == (b"a", 4)
    assert pool.nearest(b"root", (9,)) == pool.nearest(b"nobody", (1, 2)) == (b"", 0)
    pool.release(second)
    pool.take(2)  # the second one is needed
    assert pool.nearest(b"root", (1, 2, 5)) == (b"a", 2)
    pool.check()
