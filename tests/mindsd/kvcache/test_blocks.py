"""Blocks: one state each, the longest unused forgotten first, found by their hash until then."""

from __future__ import annotations

import pytest

from mindsd.errors import RequestError
from mindsd.kvcache.blocks import BlockPool, NoBlocks


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
    assert pool.name(first, b"a") == first and pool.name(second, b"b") == second
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
    pool.name(first, b"a")
    assert pool.name(second, b"a") == first
    pool.release(second)
    assert pool.counts == (1, 1, 0)
    pool.check()


def test_everything_may_be_forgotten_while_some_is_used():
    pool = BlockPool(2, 4)
    first, second = pool.take(2)
    pool.name(first, b"a")
    pool.name(second, b"b")
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
