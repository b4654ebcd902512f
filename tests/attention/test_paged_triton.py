"""Our kernels for pages against plain operations: on a GPU, or here in Triton's interpreter.

The interpreter cannot multiply bfloat16, which a GPU does.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mindsd.attention.paged import attend, attend_slowly
from mindsd.attention.paged_call import PagedCall, Sight
from mindsd.attention.paged_triton import TritonPaged
from mindsd.attention.registry import Registry
from mindsd.kvcache.pages import Pages
from mindsd.kvcache.table import GONE
from tests.attention.interpreted import DEVICE, GPU, once, run_again, runs
from tests.attention.test_paged import MIXED, TABLES, causal, made, windowed

pytest.importorskip("triton")
CAUSAL, WINDOWED = Sight(causal, causal=True), Sight(windowed, window=5)
SINGLE = [(1, 9), (1, 30)], [[7, 2, 5], [0, 1, 3, 4, 6, 8, 9, 10]]
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def moved(call: PagedCall) -> PagedCall:
    """The same call on the device."""
    place = torch.device(DEVICE)
    pages = []
    for own in (call.keys, call.values):
        kept = Pages.__new__(Pages)
        kept.data, kept.dtype = own.data.to(place), own.dtype
        kept.scales = None if own.scales is None else own.scales.to(place)
        pages.append(kept)
    sinks = None if call.sinks is None else call.sinks.to(place)
    step = replace(call.step, device=place, plans={})
    return replace(
        call, query=call.query.to(place), keys=pages[0], values=pages[1], step=step, sinks=sinks
    )


def agree(*shapes_and_tables, dtype=torch.float32, **how) -> None:
    """Kernels and plain operations, also with values wider than keys."""
    backend = TritonPaged((DEVICE,))
    for wider in (0, 2):
        call = moved(made(*shapes_and_tables, dtype=dtype, wider=wider, **how))
        assert backend.refuses(call) is None
        fast, slow = backend.run(call, call.step.segments), attend_slowly(call)
        assert fast.shape == slow.shape and fast.dtype == slow.dtype
        assert (fast.float() - slow.float()).abs().max() <= TOLERANCES[dtype]


@runs
@pytest.mark.parametrize("sight, window", [(CAUSAL, None), (WINDOWED, 5)])
@pytest.mark.parametrize("shapes", [(MIXED, TABLES), SINGLE])
def test_segments_of_all_lengths(shapes, sight, window):
    agree(*shapes, sight=sight, window=window)


@runs
def test_what_a_window_gave_back_is_not_read():
    tables = [[GONE, 11, 3], [GONE, 5, 6, 7, 8, 9, 1, 2]]
    for length in (18, 1):
        agree([(1, 10), (length, 9)], tables, sight=WINDOWED, window=5)


@runs
def test_a_window_far_behind_the_first_tile_of_keys():
    tables = [list(range(60)), list(range(60, 120))]
    sight = Sight(lambda queries, keys: (keys <= queries) & (keys > queries - 90), window=90)
    for length in (18, 1):
        agree([(1, 230), (length, 201)], tables, sight=sight, window=90)


@runs
def test_keys_out_of_a_window_are_not_read():
    tables = [[GONE, GONE, 3], [GONE, GONE, 7, 8]]
    for length in (3, 1):
        call = moved(made([(1, 10), (length, 12)], tables, sight=WINDOWED, window=3))
        call = replace(call, sight=Sight(within_three, window=3))
        expected = attend_slowly(call)
        for pages in (call.keys, call.values):
            kept = pages.data[:, [3, 7, 8]].clone()
            pages.data[:] = torch.nan
            pages.data[:, [3, 7, 8]] = kept
        found = TritonPaged((DEVICE,)).run(call, call.step.segments)
        assert (found - expected).abs().max() <= 1e-5


def within_three(queries, keys):
    return (keys <= queries) & (keys > queries - 3)


@runs
@pytest.mark.parametrize("shapes", [(MIXED, TABLES), SINGLE])
def test_sinks_softcap_and_pages_of_8_bits(shapes):
    sinks = torch.randn(6, generator=torch.Generator().manual_seed(2))
    agree(*shapes, sight=CAUSAL, sinks=sinks)
    agree(*shapes, sight=CAUSAL, softcap=2.0)
    agree(*shapes, sight=CAUSAL, cache="int8")


@runs
def test_more_heads_of_a_group_than_one_program_takes():
    for shapes in (SINGLE, (MIXED, TABLES)):
        call = moved(made(*shapes, sight=CAUSAL))
        query = torch.randn(
            call.query.shape[0], 2 * 11, 8, generator=torch.Generator().manual_seed(3)
        )
        call = replace(call, query=query.transpose(0, 1).contiguous().transpose(0, 1).to(DEVICE))
        found = TritonPaged((DEVICE,)).run(call, call.step.segments)
        assert (found - attend_slowly(call)).abs().max() <= 1e-5


@runs
@pytest.mark.parametrize("dtype", [torch.float16, *([torch.bfloat16] if GPU else [])])
def test_half_precision(dtype):
    agree(MIXED, TABLES, sight=CAUSAL, dtype=dtype)
    agree(*SINGLE, sight=CAUSAL, dtype=dtype)


@runs
def test_nobody_reads_what_is_masked():
    call = moved(made(*SINGLE, sight=CAUSAL))
    expected = attend_slowly(call)
    free = [block for block in range(11) if not any(block in own for own in SINGLE[1])]
    for pages in (call.keys, call.values):
        pages.data[:, 5, 2:] = torch.nan  # the first sequence has 10 tokens in blocks of 4
        pages.data[:, 10, 3:] = torch.nan
        pages.data[:, free] = torch.nan
    found = TritonPaged((DEVICE,)).run(call, call.step.segments)
    assert (found - expected).abs().max() <= 1e-5


@runs
def test_it_is_tried_and_chosen():
    registry = Registry(paged=[TritonPaged((DEVICE,))])
    call = moved(made(MIXED, TABLES, sight=CAUSAL))
    chosen = registry.choose_paged(call)
    assert chosen is not None and chosen.name == "triton pages"
    assert (attend(call, registry) - attend_slowly(call)).abs().max() <= 1e-5


def test_what_it_refuses():
    backend, call = TritonPaged(("cpu",)), made(MIXED, TABLES, sight=CAUSAL)
    assert "computes on cuda only" in (TritonPaged().refuses(call) or "")
    odd = Sight(lambda queries, keys: keys <= queries)
    assert "neither causal" in (backend.refuses(replace(call, sight=odd)) or "")
    wide = made(MIXED, TABLES, sight=CAUSAL, wider=300)
    assert "at most 256" in (backend.refuses(wide) or "")
    double = made(MIXED, TABLES, sight=CAUSAL, dtype=torch.float64)
    assert "not torch.float64" in (backend.refuses(double) or "")
    kept = made(MIXED, TABLES, sight=CAUSAL, window=5)
    assert "the cache keeps 5" in (backend.refuses(kept) or "")


@once
def test_all_of_it_in_the_interpreter():
    run_again(__file__)
