"""The next forward: fair, within its budget, and whatever comes, every sequence ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsd.batching.sequence import Sequence
from mindsd.batching.tokens import Budget, Cap, next_batch
from mindsd.errors import RequestError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import GONE, BlockTable, Lane

SIZE = 4


def sequence(lanes: list[Lane], tokens: int, first: int = 0) -> Sequence:
    return Sequence(
        list(range(first, first + tokens)), tokens, BlockTable(lanes, root()), draws=object()
    )


def lanes(total: int = 64, *windows: int) -> list[Lane]:
    return [Lane(BlockPool(total, SIZE), window) for window in (None, *windows)]


def went_on(batch) -> None:
    """What a runner does once the forward is done, with 7 for every token drawn."""
    for chunk in batch.chunks:
        own = chunk.sequence
        own.computed = min(chunk.stop, len(own.tokens))
        if chunk.draws:
            own.tokens.append(7)
        own.table.computed(own.tokens, own.computed)


def test_one_token_of_each_that_decodes_beside_a_piece_of_a_prompt():
    own = lanes()
    first, second = sequence(own, 5), sequence(own, 30, 500)
    went_on(next_batch([first], Budget(8)))
    batch = next_batch([first, second], Budget(8))
    assert [(c.sequence, c.start, c.stop, c.draws) for c in batch.chunks] == [
        (first, 5, 6, True),
        (second, 0, 7, False),
    ]


def test_a_short_prompt_does_not_wait_for_a_long_one_and_the_long_one_goes_on():
    own = lanes()
    long, short = sequence(own, 100), sequence(own, 6, 500)
    batch = next_batch([long, short], Budget(16))
    assert {(c.sequence, c.length) for c in batch.chunks} == {(long, 10), (short, 6)}
    assert [c.draws for c in batch.chunks] == [False, True]


def test_a_draft_goes_along_where_there_is_room():
    own = lanes()
    first, second = sequence(own, 5), sequence(own, 5, 500)
    went_on(next_batch([first, second], Budget(32)))
    first.draft, second.draft = [1, 2, 3], [4, 5]
    batch = next_batch([first, second], Budget(6))
    assert [c.tokens() for c in batch.chunks] == [[7, 1, 2, 3], [7, 4]]


def test_the_youngest_gives_way_and_the_oldest_never_waits():
    own = lanes(6)
    first, second = sequence(own, 8), sequence(own, 8, 500)
    for _ in range(5):  # then each has three full blocks and would write to a fourth
        went_on(next_batch([first, second], Budget(64)))
    batch = next_batch([first, second], Budget(64))
    assert [c.sequence for c in batch.chunks] == [first]
    assert second.preempted == 1 and second.computed == 0 and not second.table.holds_any


def test_who_begins_does_not_take_the_room_of_those_that_run():
    own = lanes(6)
    first, second = sequence(own, 12), sequence(own, 12, 500)
    went_on(next_batch([first], Budget(64)))
    assert [c.sequence for c in next_batch([first, second], Budget(64)).chunks] == [first]


def test_what_does_not_fit_alone_is_refused():
    own = lanes(2)
    alone = sequence(own, 20)
    batch = next_batch([alone], Budget(64))
    for _ in range(10):  # as much as fits is computed first: a window would give blocks back
        went_on(batch)
        batch = next_batch([alone], Budget(64))
    assert batch.chunks == [] and batch.refused == [alone]


def test_a_window_lets_a_text_through_that_is_longer_than_the_cache():
    own = [Lane(BlockPool(5, SIZE), 6)]
    alone = sequence(own, 60)
    for _ in range(60):
        went_on(next_batch([alone], Budget(64)))
    assert len(alone.tokens) > 60 and not next_batch([alone], Budget(64)).refused


def test_priority_goes_before_age():
    own = lanes()
    old, urgent = sequence(own, 30), sequence(own, 30, 500)
    urgent.priority = 1
    assert next_batch([old, urgent], Budget(4, sequences=1)).chunks[0].sequence is urgent


def test_memory_that_ran_out_is_remembered_and_slowly_forgotten():
    cap, budget = Cap(), Budget(100)
    assert cap.of(budget) is budget
    cap.failed(40)
    assert cap.of(budget).tokens == 20
    for _ in range(3 * 64):
        cap.went_well()
    assert cap.of(budget) is budget


def test_a_prompt_that_draws_nothing_stops_before_its_last_token():
    own = lanes()
    first = sequence(own, 9)
    first.draws = None
    [chunk] = next_batch([first], Budget(64)).chunks
    assert (chunk.start, chunk.stop, chunk.draws) == (0, 8, False)


def test_a_prompt_that_draws_nothing_may_be_found_whole():
    own = lanes()
    went_on(next_batch([sequence(own, 9)], Budget(64)))
    again = sequence(own, 9)
    again.draws = None
    assert next_batch([again], Budget(64)).chunks == []
    assert again.left == 0 and again.reused == 8 and again.table.holds_any


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(RequestError, match="at least one token"):
        Budget(0)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    prompts=st.lists(
        st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(0, 8)), max_size=9
    ),
    blocks=st.integers(2, 24),
    budget=st.integers(1, 40),
    window=st.sampled_from([None, 3, 9]),
    cancels=st.dictionaries(st.integers(0, 8), st.integers(0, 25)),
    shared=st.booleans(),
    drafts=st.booleans(),
)
def test_whatever_comes_every_sequence_ends_and_no_block_is_lost(
    prompts, blocks, budget, window, cancels, shared, drafts
):
    own = lanes(blocks) if window is None else lanes(blocks, window)
    waiting = {
        number: (arrival, sequence(own, length, 0 if shared else 1000 * number), length + answer)
        for number, (length, answer, arrival) in enumerate(prompts)
    }
    ended: set[int] = set()
    for turn in range(2000):
        for number, at in cancels.items():
            if at == turn and number in waiting and number not in ended:
                waiting[number][1].release()
                ended.add(number)
        ready = {
            number: own_sequence
            for number, (arrival, own_sequence, _) in waiting.items()
            if arrival <= turn and number not in ended
        }
        if not ready:
            if len(ended) == len(waiting):
                break
            continue
        batch = next_batch(list(ready.values()), Budget(budget))
        assert batch.chunks or batch.refused, "nobody goes on"
        assert sum(chunk.length for chunk in batch.chunks) <= budget
        check_owners(own, list(ready.values()), batch)
        went_on(batch)
        for number, one in ready.items():
            if drafts and one.left == 1:
                one.draft = [7, 7, 8]
            too_long = one in batch.refused
            if too_long or len(one.tokens) >= waiting[number][2]:
                one.release()
                ended.add(number)
            if too_long:
                assert len(one.tokens) + 3 > (blocks - 1) * SIZE, "refused though it fits"
        for lane in own:
            lane.pool.check()
    assert len(ended) == len(waiting), "a sequence starved"
    for lane in own:
        assert lane.pool.counts[1] == 0, "blocks leaked"


def check_owners(own: list[Lane], sequences: list[Sequence], batch) -> None:
    """A block that is written to belongs to one sequence only."""
    for number in range(len(own)):
        holders: dict[int, list[Sequence]] = {}
        for one in sequences:
            for block in one.table.blocks[number]:
                if block != GONE:
                    holders.setdefault(block, []).append(one)
        for chunk in batch.chunks:
            for place in range(chunk.start // SIZE, -(-chunk.stop // SIZE)):
                block = chunk.sequence.table.blocks[number][place]
                assert holders[block] == [chunk.sequence]
