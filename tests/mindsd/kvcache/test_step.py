"""A step: where its tokens go in the cache, and who may learn of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step, present_step, stepping
from mindsd.kvcache.table import GONE, Lane

SIZE = 4


def step(*segments: Segment, lanes: int = 1) -> Step:
    made = [Lane(BlockPool(16, SIZE)) for _ in range(lanes)]
    pages = PageStore([16] * lanes, SIZE, list(range(lanes)), "auto")
    return Step(segments, pages, made, torch.device("cpu"))


def test_segments_stand_end_to_end():
    own = step(Segment(0, 3, 2, [[0, 1]]), Segment(3, 1, 9, [[2, 3, 4]]), Segment(4, 2, 0, [[5]]))
    assert [segment.stop for segment in own.segments] == [3, 4, 6]
    assert [segment.total for segment in own.segments] == [5, 10, 2]
    assert own.tokens == 6 and own.past == 9


def test_every_token_has_a_slot_in_the_block_of_its_position():
    first = Segment(0, 4, 2, [[7, 3], [1, 0]])  # positions 2 to 5, over the end of a block
    second = Segment(4, 1, 8, [[9, 9, 5], [GONE, GONE, 2]])
    first_lane, second_lane = step(first, second, lanes=2).slots
    assert first_lane.tolist() == [7 * 4 + 2, 7 * 4 + 3, 3 * 4, 3 * 4 + 1, 5 * 4]
    assert second_lane.tolist() == [1 * 4 + 2, 1 * 4 + 3, 0, 1, 2 * 4]
    assert first_lane.dtype == torch.int64


def test_a_plan_is_made_once_for_all_layers():
    own, made = step(Segment(0, 1, 0, [[0]])), []
    for _ in range(3):
        assert own.plan("window 9", lambda: made.append(9)) is None
        assert own.plan("all", lambda: made.append(0) or "plan") == "plan"
    assert made == [9, 0]
    assert step(Segment(0, 1, 0, [[0]])).plan("all", lambda: "another") == "another"


def test_calls_are_counted_by_layer():
    own = step(Segment(0, 1, 0, [[0]]))
    assert [own.next_call(layer) for layer in (0, 1, 1, 0, 1)] == [0, 0, 1, 1, 2]
    assert own.calls == {0: 2, 1: 3} and step(Segment(0, 1, 0, [[0]])).calls.total() == 0


def test_a_step_is_present_inside_it_alone():
    outer, inner = step(Segment(0, 1, 0, [[0]])), step(Segment(0, 1, 5, [[0, 1]]))
    assert present_step() is None
    with stepping(outer):
        with pytest.raises(KeyError), stepping(inner):
            assert present_step() is inner
            raise KeyError
        assert present_step() is outer
        with ThreadPoolExecutor(1) as others:
            assert others.submit(present_step).result() is None
    assert present_step() is None
