"""Packed sequences over pages: what is fast against plain operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from mindsd.attention.paged import attend, attend_slowly
from mindsd.attention.paged_call import PagedCall, Sight, default_scale
from mindsd.attention.registry import default_registry
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import GONE, Lane

SIZE, HEADS, KV_HEADS, DIM = 4, 6, 2, 8


def causal(queries, keys):
    return keys <= queries


def windowed(queries, keys):
    return (keys <= queries) & (keys > queries - 5)


def chunked(queries, keys):  # as Llama 4's: within the query's own 6 tokens
    return (keys <= queries) & (keys // 6 == queries // 6)


def made(
    shapes: Sequence[tuple[int, int]],
    tables: Sequence[Sequence[int]],
    *,
    sight: Sight,
    window: int | None = None,
    dtype: torch.dtype = torch.float32,
    cache: str = "auto",
    wider: int = 0,
    **more,
) -> PagedCall:
    """A call of segments of (length, past), its pages full of what random tokens left."""
    generator = torch.Generator().manual_seed(1)
    total = 1 + max(block for table in tables for block in table)
    segments, start = [], 0
    for (length, past), table in zip(shapes, tables, strict=True):
        segments.append(Segment(start, length, past, [list(table)]))
        start += length
    store = PageStore([total], SIZE, [0], cache)
    step = Step(segments, store, [Lane(BlockPool(total, SIZE), window)], torch.device("cpu"))
    slots = torch.arange(total * SIZE)
    new = [
        torch.randn(len(slots), KV_HEADS, dim, generator=generator).to(dtype)
        for dim in (DIM, DIM + wider)
    ]
    pages = store.of(0, 0, *new)
    for page, tokens in zip(pages, new, strict=True):
        page.write(slots, tokens)
    query = torch.randn(start, HEADS, DIM, generator=generator).to(dtype)
    return PagedCall(query, *pages, step, 0, sight, default_scale(DIM), **more)


def agree(*shapes_and_tables, tolerance: float = 1e-5, **how) -> list[PagedCall]:
    """Both with values as wide as keys (the kernel's case) and with wider ones."""
    calls = [made(*shapes_and_tables, **how, wider=wider) for wider in (0, 2)]
    for call in calls:
        fast, slow = attend(call, default_registry()), attend_slowly(call)
        assert fast.shape == (call.query.shape[0], HEADS, call.values.data.shape[-1])
        assert fast.dtype == call.query.dtype
        assert (fast - slow).abs().max() <= tolerance
    return calls


MIXED = [(1, 9), (3, 4), (1, 0), (20, 0), (18, 7)]
TABLES = [[7, 2, 5], [0, 1], [9], [10, 11, 12, 13, 14], [3, 15, 4, 6, 8, 16, 18]]


@pytest.mark.parametrize("rule", [causal, windowed, chunked])
def test_tokens_drafts_and_chunks_together(rule):
    agree(MIXED, TABLES, sight=Sight(rule, causal=rule is causal))


@pytest.mark.parametrize("past", [0, 1, 3, 4, 11, 30])
def test_one_token_alone(past):
    blocks = list(range(past // SIZE + 1))
    agree([(1, past)], [blocks], sight=Sight(causal, causal=True))
    agree([(1, past)], [blocks[::-1]], sight=Sight(causal, causal=True))


def test_pages_that_several_share():
    shared = [2, 3]
    tables = [[*shared, 5], [*shared, 6], [*shared, 9], [7]]
    agree([(1, 9), (1, 10), (4, 8), (1, 2)], tables, sight=Sight(causal, causal=True))


def test_rows_of_about_one_length_are_taken_together():
    lengths = [9, 10, 30, 31, 60]
    tables = [list(range(16 * i, 16 * i + length // SIZE + 1)) for i, length in enumerate(lengths)]
    shapes = [(1, length) for length in lengths]
    for call in agree(shapes, tables, sight=Sight(causal, causal=True)):
        assert [rows.number for rows in call.step.plans["rows", 0]] == [2, 2, 1]


def test_what_a_window_gave_back_is_not_read():
    tables = [[GONE, 11, 3], [GONE, 5, 6, 7, 8, 9, 1, 2]]
    agree([(1, 10), (18, 9)], tables, sight=Sight(windowed), window=5)


def test_softcap_and_sinks():
    sinks = torch.randn(HEADS, generator=torch.Generator().manual_seed(2))
    agree(MIXED, TABLES, sight=Sight(causal, causal=True), softcap=2.0)
    agree(MIXED, TABLES, sight=Sight(windowed), sinks=sinks)


def test_a_sink_takes_its_share():
    sight = Sight(causal, causal=True)
    plain, sunk = (
        attend(made([(1, 3)], [[0]], sight=sight, sinks=sinks), default_registry())
        for sinks in (None, torch.full((HEADS,), 50.0))
    )
    assert plain.abs().max() > 0.1 and sunk.abs().max() < 1e-6


def test_bfloat16_and_float64():
    agree(MIXED, TABLES, sight=Sight(causal, causal=True), dtype=torch.bfloat16, tolerance=3e-2)
    agree(MIXED, TABLES, sight=Sight(causal, causal=True), dtype=torch.float64, tolerance=1e-6)


def test_int8_pages_are_near_and_fast_is_slow():
    sight = Sight(causal, causal=True)
    exact = attend(made(MIXED, TABLES, sight=sight), default_registry())
    [call, _] = agree(MIXED, TABLES, sight=sight, cache="int8")
    found = attend(call, default_registry())
    assert 0 < (found - exact).abs().max() < 0.05


def test_neighbours_change_nothing():
    sight = Sight(causal, causal=True)
    together = attend(made(MIXED, TABLES, sight=sight), default_registry())
    call = made(MIXED, TABLES, sight=sight)
    alone = Step(
        [Segment(0, 1, 9, [TABLES[0]])], call.step.pages, call.step.lanes, call.step.device
    )
    own = PagedCall(call.query[:1], call.keys, call.values, alone, 0, sight, call.scale)
    assert (attend(own, default_registry())[0] - together[0]).abs().max() <= 1e-6


def dense_with_pictures(call: PagedCall, rule) -> torch.Tensor:
    """Written anew, token by token: who sees whom, softmax over it."""
    rows = []
    for segment in call.step.segments:
        [blocks] = segment.blocks
        slots = torch.tensor(
            [b * SIZE + i if b != GONE else 0 for b in blocks for i in range(SIZE)]
        )
        k, v = (
            torch.stack([page.data.flatten(1, 2)[:, slot] for slot in slots], 1).float()
            for page in (call.keys, call.values)
        )
        for at in range(segment.past, segment.total):
            seen = torch.tensor(
                [bool(rule(torch.tensor(at), torch.tensor(key))) for key in range(segment.total)]
            )
            for start, stop in segment.whole:
                if start <= at < stop:
                    seen[at:stop] = True
            q = call.query[segment.start + at - segment.past].float()
            for head in range(HEADS):
                own = head // (HEADS // KV_HEADS)
                scores = (k[own, : segment.total] @ q[head]) * call.scale
                weights = scores.masked_fill(~seen, -torch.inf).softmax(0)
                rows.append(weights @ v[own, : segment.total])
    return torch.stack(rows).view(len(call.query), HEADS, -1)


def with_pictures(call: PagedCall, *pictures: Sequence[tuple[int, int]]) -> PagedCall:
    """The same call, of segments with these pictures."""
    segments = [
        replace(segment, whole=tuple(own))
        for segment, own in zip(call.step.segments, pictures, strict=True)
    ]
    return replace(call, step=replace(call.step, segments=segments, plans={}))


RULES = {
    "causal": (Sight(causal, causal=True), None),
    "windowed": (Sight(windowed), 5),
}
# A picture in a chunk; the rest of one that begins in the cache; one token, the last of a picture;
# a chunk with two; a text beside them.
SHOWN = [(12, 0), (7, 6), (1, 8), (20, 3), (18, 7), (1, 9)]
SHOWN_TABLES = [
    [0, 1, 2],
    [7, 3, 5, 20],
    [9, 8, 21],
    [10, 11, 12, 13, 14, 15],
    [22, 23, 24, 25, 26, 27, 28],
    [17, 16, 18],
]
PICTURES = [[(2, 11)], [(3, 12)], [(4, 9)], [(4, 9), (10, 22)], [], []]


@pytest.mark.parametrize("rule", RULES)
def test_tokens_of_a_picture_see_all_of_it(rule):
    sight, window = RULES[rule]
    for wider in (0, 2):
        call = made(SHOWN, SHOWN_TABLES, sight=sight, window=window, wider=wider)
        call = with_pictures(call, *PICTURES)
        expected = dense_with_pictures(call, sight.rule)
        assert (attend(call, default_registry()) - expected).abs().max() <= 1e-5
        assert (attend_slowly(call) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("rule", RULES)
def test_a_picture_changes_its_own_tokens_alone(rule):
    sight, window = RULES[rule]
    plain = made(SHOWN, SHOWN_TABLES, sight=sight, window=window)
    found = attend(with_pictures(plain, *PICTURES), default_registry())
    apart = (found - attend(plain, default_registry())).abs().amax((1, 2)) > 1e-6
    changed = {
        segment.start + at - segment.past
        for segment, own in zip(plain.step.segments, PICTURES, strict=True)
        for start, stop in own
        for at in range(max(start, segment.past), stop - 1)  # the last saw all of it anyway
    }
    assert set(apart.nonzero().flatten().tolist()) == changed


def test_a_picture_that_begins_in_the_cache_is_computed_as_if_all_of_it_were():
    """Each layer by itself: the queries of the rest, over the same keys."""
    sight, window = RULES["windowed"]
    table = [[4, 2, 7, 1]]
    whole = with_pictures(made([(14, 0)], table, sight=sight, window=window), [(2, 12)])
    rest = with_pictures(made([(7, 7)], table, sight=sight, window=window), [(2, 12)])
    rest = replace(rest, query=whole.query[7:])
    found = attend(rest, default_registry())
    assert (found - attend(whole, default_registry())[7:]).abs().max() <= 1e-6


def test_what_a_window_gave_back_is_not_read_behind_a_picture():
    tables = [[GONE, 11, 3, 12], [GONE, 5, 6, 7, 8, 9, 1, 2]]
    call = made([(4, 10), (18, 9)], tables, sight=Sight(windowed), window=5)
    call = with_pictures(call, [(5, 14)], [(2, 13), (15, 25)])
    expected = dense_with_pictures(call, windowed)
    assert (attend(call, default_registry()) - expected).abs().max() <= 1e-5
    assert (attend_slowly(call) - expected).abs().max() <= 1e-5


def test_pictures_with_softcap_sinks_and_in_int8_pages():
    sinks = torch.randn(HEADS, generator=torch.Generator().manual_seed(2))
    sight = Sight(causal, causal=True)
    several: list[dict[str, Any]] = [{"softcap": 2.0}, {"sinks": sinks}, {"cache": "int8"}]
    for more in several:
        call = with_pictures(made(SHOWN, SHOWN_TABLES, sight=sight, **more), *PICTURES)
        assert (attend(call, default_registry()) - attend_slowly(call)).abs().max() <= 1e-5
