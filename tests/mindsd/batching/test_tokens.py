"""The next forward: fair, within its budget, and whatever comes, every sequence ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsd.batching.placeholders import Placeholders
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


def shown(
    lanes: list[Lane], parts: list[int], seed: int = 0, *, whole: bool = True, first: int = 0
) -> Sequence:
    """Text and images in turn, of so many tokens each; text first, and last.

    An image token's feature is its position, plus the seed.
    """
    own = sequence(lanes, sum(parts), first)
    ends = [sum(parts[: i + 1]) for i in range(len(parts))]
    spans = tuple((end - length, end) for end, length in zip(ends, parts, strict=True))[1::2]
    places = [place for start, stop in spans for place in range(start, stop)]
    names = [-1000 * (1 + seed) - at if at in places else own.tokens[at] for at in range(ends[-1])]
    features = torch.tensor([[float(place + seed)] for place in places]).reshape(-1, 1)
    own.images = Placeholders(places, (features,), names, spans if whole else ())
    return own


def lanes(total: int = 64, *windows: int) -> list[Lane]:
    return [Lane(BlockPool(total, SIZE), window) for window in (None, *windows)]


def went_on(batch) -> None:
    """What a runner does once the forward is done, with 7 for every token drawn."""
    for chunk in batch.chunks:
        own = chunk.sequence
        own.computed = min(chunk.stop, len(own.tokens))
        if chunk.draws:
            own.tokens.append(7)
        own.table.computed(own.names, own.computed)


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


def lengths(batch) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.stop) for chunk in batch.chunks]


def test_an_image_that_is_read_from_left_to_right_is_divided_like_text():
    own = lanes()
    alone = shown(own, [3, 10, 2], whole=False)
    assert lengths(next_batch([alone], Budget(5))) == [(0, 5)]


def test_an_image_is_never_divided_and_text_before_it_is_taken_alone():
    own = lanes()
    alone, found = shown(own, [3, 10, 2, 4, 3]), []
    for _ in range(6):
        batch = next_batch([alone], Budget(5))
        found += lengths(batch)
        went_on(batch)
    assert found[:5] == [(0, 3), (3, 13), (13, 15), (15, 20), (20, 22)]


def test_the_oldests_image_goes_over_the_budget_and_others_wait():
    own = lanes()
    old, young = shown(own, [2, 20, 3], 1), shown(own, [2, 20, 3], 2, first=500)
    text = sequence(own, 6, 900)
    turns = []
    for _ in range(6):
        batch = next_batch([old, young, text], Budget(12))
        turns.append({chunk.sequence: (chunk.start, chunk.stop) for chunk in batch.chunks})
        went_on(batch)
    assert turns[0] == {old: (0, 2), young: (0, 2), text: (0, 6)}  # old has 6: as far as its image
    assert turns[1] == {old: (2, 22), text: (6, 7)}  # the young one's image waits
    assert turns[2] == {old: (22, 25), text: (7, 8)}
    assert turns[3] == {old: (25, 26), young: (2, 22), text: (8, 9)}


def test_an_image_that_fits_the_budget_goes_beside_others():
    own = lanes()
    old, young = sequence(own, 6), shown(own, [1, 8, 1], first=500)
    batch = next_batch([old, young], Budget(24))
    assert {chunk.sequence: chunk.length for chunk in batch.chunks} == {old: 6, young: 10}


def test_an_image_is_not_kept_waiting_by_short_prompts_that_come_all_the_time():
    own = lanes(256)
    image = shown(own, [2, 30, 3])
    waiting = [image]
    for turn in range(6):
        waiting.append(sequence(own, 4, 1000 * (turn + 1)))
        went_on(next_batch(waiting, Budget(8)))
    assert image.computed >= 35


def test_an_image_takes_the_blocks_of_a_younger_text():
    own = lanes(7)
    young = sequence(own, 12, 500)
    old = shown(own, [1, 18, 2])
    old.number = -1
    went_on(next_batch([young], Budget(64)))
    batch = next_batch([old, young], Budget(64))
    assert [(chunk.sequence, chunk.length) for chunk in batch.chunks] == [(old, 21)]
    assert young.preempted == 1 and not young.table.holds_any


def test_a_preempted_image_is_computed_again_as_a_whole():
    own = lanes(8)
    old, young = sequence(own, 8), shown(own, [2, 9, 2], first=500)
    for _ in range(20):
        batch = next_batch([old, young], Budget(64))
        assert all(chunk.stop not in range(3, 11) for chunk in batch.chunks[1:])
        went_on(batch)
        if young.preempted:
            break
    assert young.preempted
    old.release()
    starts = []
    while young.left > 1 or not starts:
        batch = next_batch([young], Budget(4))
        starts += lengths(batch)
        went_on(batch)
    assert all(stop not in range(3, 11) for _, stop in starts)
    own[0].pool.check()


def test_a_preempted_image_is_found_in_the_cache_as_far_as_it_is_still_there():
    own = lanes(16)
    first = shown(own, [2, 9, 2])
    went_on(next_batch([first], Budget(64)))
    first.release()
    first.preempted += 1
    [chunk] = next_batch([first], Budget(3)).chunks
    assert (chunk.start, chunk.stop) == (12, 14)


def test_what_follows_a_prefix_that_ends_inside_an_image_is_the_rest_of_it():
    own = lanes(16)
    went_on(next_batch([shown(own, [2, 9, 2])], Budget(64)))
    again = shown(own, [2, 9, 2, 1, 2])  # 8 tokens in whole blocks, and 3 of 4 of the next
    assert again.images is not None
    names = [*again.images.names[:8], 77, *again.images.names[9:]]  # from there it is another one
    again.images = replace(again.images, names=names)
    [chunk] = next_batch([again], Budget(2)).chunks
    assert (chunk.start, chunk.stop) == (8, 11)


@pytest.mark.parametrize("others", [0, 1])
def test_an_image_larger_than_all_blocks_is_refused_and_leaves_none_behind(others):
    own = lanes(3)
    large = shown(own, [1, 14, 2])
    texts = [sequence(own, 2, 500) for _ in range(others)]
    refused = []
    for _ in range(4):
        batch = next_batch([large, *texts], Budget(64))
        refused += batch.refused
        went_on(batch)
    assert large in refused and large.computed <= 1
    for one in (large, *texts):
        one.release()
    own[0].pool.check()
    assert own[0].pool.counts[1] == 0


def test_an_image_wider_than_a_window_is_computed_as_a_whole():
    own = [Lane(BlockPool(6, SIZE), 6)]
    alone = shown(own, [30, 12, 20])
    found = []
    for _ in range(60):
        batch = next_batch([alone], Budget(64))
        assert not batch.refused
        found += lengths(batch)
        went_on(batch)
    assert any(start <= 30 and stop >= 42 for start, stop in found)
    assert len(alone.tokens) > 62


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
    live_through(own, waiting, blocks, budget, cancels, drafts=drafts)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    prompts=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 8), st.integers(1, 14)), max_size=3),
            st.integers(1, 8),  # tokens of the text behind the images
            st.integers(1, 10),  # of the answer
            st.integers(0, 8),  # when it comes
            st.booleans(),  # whether its images' tokens see each other
        ),
        max_size=7,
    ),
    blocks=st.integers(2, 24),
    budget=st.integers(1, 40),
    window=st.sampled_from([None, 3, 9]),
    cancels=st.dictionaries(st.integers(0, 6), st.integers(0, 25)),
    shared=st.booleans(),
    drafts=st.booleans(),
)
def test_whatever_images_come_every_sequence_ends_and_none_is_divided(
    prompts, blocks, budget, window, cancels, shared, drafts
):
    own = lanes(blocks) if window is None else lanes(blocks, window)
    waiting = {}
    for number, (images, rest, answer, arrival, whole) in enumerate(prompts):
        parts = [*(length for pair in images for length in pair), rest]
        seed = 0 if shared else number
        one = shown(own, parts, seed, whole=whole, first=0 if shared else 1000 * number)
        waiting[number] = (arrival, one, sum(parts) + answer)
    live_through(own, waiting, blocks, budget, cancels, drafts=drafts)


def live_through(
    own: list[Lane],
    waiting: dict[int, tuple[int, Sequence, int]],
    blocks: int,
    budget: int,
    cancels: dict[int, int],
    *,
    drafts: bool,
) -> None:
    """Until all have ended: (when it comes, the sequence, its last length) of each."""
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
        check_budget(batch, budget)
        check_owners(own, list(ready.values()), batch)
        check_images(batch)
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


def check_budget(batch, budget: int) -> None:
    """It is kept, or one image alone is over it."""
    total = sum(chunk.length for chunk in batch.chunks)
    if total <= budget:
        return
    over = [chunk for chunk in batch.chunks if chunk.length > 1 and not chunk.divisible]
    assert any(total - chunk.length < budget for chunk in over)


def check_images(batch) -> None:
    """Every token is computed where the last forward ended, with its own feature, and no image
    that must be whole is divided."""
    for chunk in batch.chunks:
        own = chunk.sequence
        assert chunk.start == own.computed and chunk.length > 0
        if own.images is None:
            continue
        assert not any(first < chunk.stop < end for first, end in own.images.whole)
        places = [p for p in own.images.places if chunk.start <= p < chunk.stop]
        seed = own.images.features[0].flatten().tolist()[:1]
        offset = seed[0] - own.images.places[0] if seed else 0
        found = [own.flatten().tolist() for own in chunk.features()]
        assert found == ([[place + offset for place in places]] if places else [])


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
