"""Attention over pages on a simulated NPU: which operator, with what, and that it is right."""

from __future__ import annotations

import pytest
import torch

from mindsd.attention.npu_paged import NpuPaged
from mindsd.attention.paged import attend, attend_slowly
from mindsd.attention.paged_call import PagedCall, Sight, default_scale
from mindsd.attention.registry import Registry
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import NpuPages, Pages, PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import GONE, Lane
from tests.attention.simulated import simulated

SIZE = 128
FUSED = "npu_fused_infer_attention_score"


def causal(queries, keys):
    return keys <= queries


CAUSAL = Sight(causal, causal=True)


def within(window):
    def rule(queries, keys):
        return (keys <= queries) & (keys > queries - window)

    return Sight(rule, window=window)


def made(
    shapes,
    *,
    sight=CAUSAL,
    window=None,
    dim=128,
    heads=4,
    kv_heads=2,
    dtype=torch.float16,
    size=SIZE,
    cache="auto",
    kind=NpuPages,
    values=None,
    pictures=None,
    tables=None,
    **more,
):
    """A call of segments of (length, past), each in blocks of its own, the last first."""
    generator = torch.Generator().manual_seed(1)
    segments, start, block = [], 0, 0
    for number, (length, past) in enumerate(shapes):
        count = -(-(past + length) // size)
        own = list(range(block + count - 1, block - 1, -1)) if tables is None else tables[number]
        whole = [] if pictures is None else pictures[number]
        segments.append(Segment(start, length, past, [own], whole=whole))
        start, block = start + length, block + count
    if tables is not None:
        block = 1 + max(max(own) for own in tables)
    store = PageStore([block], size, [0], cache, lambda device: kind)
    step = Step(segments, store, [Lane(BlockPool(block, size), window)], torch.device("cpu"))
    new = [
        torch.randn(block * size, kv_heads, own, generator=generator).to(dtype)
        for own in (dim, values or dim)
    ]
    keys, cached = store.of(0, 0, *new)
    keys.write(torch.arange(block * size), new[0])
    cached.write(torch.arange(block * size), new[1])
    query = torch.randn(start, heads, dim, generator=generator).to(dtype)
    return PagedCall(query, keys, cached, step, 0, sight, default_scale(dim), **more)


def answered(call, registry=None):
    """What `attend` gives, against plain operations, and the fused operators of it."""
    with simulated() as npu:
        registry = registry or Registry(paged=[NpuPaged(("cpu",))])
        backend = registry.choose_paged(call)  # its self-test is not to be counted
        npu.log.clear()
        found = attend(call, registry)
        syncs = dict(npu.log.host_syncs)
    expected = attend_slowly(call)
    assert found.shape == expected.shape and found.dtype == call.query.dtype
    assert (found.float() - expected.float()).abs().max() <= 4e-3
    return backend, npu.log.calls, syncs


def test_one_token_each_is_one_decode_call_without_a_mask():
    backend, calls, syncs = answered(made([(1, 9), (1, 300), (1, 127), (1, 128)]))
    assert backend is not None and [call.op for call in calls] == [FUSED] and not syncs
    [call] = calls
    assert call["input_layout"] == "BSH" and call["query"].shape == (4, 1, 512)
    assert call["key"].shape == (8, 128, 256) and call["block_size"] == 128
    assert call["block_table"].shape == (4, 3) and call["block_table"].dtype == torch.int32
    assert call["actual_seq_lengths_kv"] == [10, 301, 128, 129]
    assert (call["num_heads"], call["num_key_value_heads"]) == (4, 2)
    assert call["atten_mask"] is None and call["scale"] == pytest.approx(128**-0.5)


def test_tokens_drafts_and_chunks_are_one_packed_call():
    _, calls, syncs = answered(made([(1, 9), (3, 200), (1, 140), (40, 100), (130, 0)]))
    [call] = calls
    assert call.op == FUSED and call["input_layout"] == "TND" and not syncs
    assert call["query"].shape == (175, 4, 128)
    assert call["actual_seq_lengths"] == [1, 4, 5, 45, 175]  # cumulative
    assert call["actual_seq_lengths_kv"] == [10, 203, 141, 140, 130]  # of each
    assert call["sparse_mode"] == 3 and call["atten_mask"].shape == (2048, 2048)


@pytest.mark.parametrize("dim, heads, kv_heads", [(64, 4, 2), (80, 4, 4), (256, 2, 1)])
def test_head_sizes_that_do_not_pack_go_chunk_by_chunk(dim, heads, kv_heads):
    shapes = [(1, 9), (3, 200), (1, 140), (40, 100)]
    call = made(shapes, dim=dim, heads=heads, kv_heads=kv_heads)
    _, calls, syncs = answered(call)
    assert [own["input_layout"] for own in calls] == ["BSH"] * 3 and not syncs
    assert [own["query"].shape[:2] for own in calls] == [(2, 1), (1, 3), (1, 40)]
    assert [own["sparse_mode"] for own in calls] == [0, 3, 3]
    assert [own["atten_mask"] is None for own in calls] == [True, False, False]


def test_small_heads_pack_where_they_are_not_grouped():
    _, calls, _ = answered(made([(1, 9), (30, 100)], dim=64, heads=2, kv_heads=2))
    assert [own["input_layout"] for own in calls] == ["TND"]


def test_a_window_that_has_moved_on_never_takes_the_decode_branch():
    shapes = [(1, 9), (1, 300), (1, 49), (1, 50)]
    for dim in (128, 80):
        call = made(shapes, sight=within(50), window=50, dim=dim)
        _, calls, syncs = answered(call)
        assert not syncs
        if dim == 128:
            [own] = calls
            assert own["actual_seq_lengths"] == [1, 3, 4, 6]  # the two are computed twice
        else:
            decode, own = calls
            assert decode["query"].shape[:2] == (2, 1) and decode["atten_mask"] is None
            assert own["query"].shape[:2] == (2, 2)
        assert own["sparse_mode"] == 4
        assert (own["pre_tokens"], own["next_tokens"]) == (49, 0)  # its own is the 50th


def test_chunks_and_drafts_in_a_window():
    shapes = [(1, 9), (1, 300), (4, 126), (150, 200)]
    for dim in (128, 80):
        call = made(shapes, sight=within(50), window=50, dim=dim)
        _, calls, _ = answered(call)
        assert {own["sparse_mode"] for own in calls if own["atten_mask"]} == {4}
        # Blocks that nobody sees any more are not named: 200 - 49 lies in the second.
        assert max(max(own["actual_seq_lengths_kv"]) for own in calls) == 350 - 128


def test_blocks_that_were_given_back_are_not_named():
    tables = [[GONE, GONE, 0], [GONE, 2, 1]]
    _, calls, _ = answered(made([(1, 320), (20, 250)], sight=within(50), window=50, tables=tables))
    assert calls


def test_tables_name_no_more_blocks_than_there_are():
    tables = [[0, 1, 2]] * 4  # four sequences with one prompt
    _, calls, _ = answered(made([(1, 300)] * 4, tables=tables))
    assert [own["query"].shape[0] for own in calls] == [1] * 4


def test_pictures_are_asked_apart():
    call = made([(1, 9), (30, 100), (20, 0)], pictures=[[], [(105, 120)], []])
    _, calls, _ = answered(call)
    fused = [own for own in calls if own.op == FUSED]
    assert [own["actual_seq_lengths_kv"] for own in fused] == [[10, 20]]


def test_sinks_go_packed_in_bfloat16():
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.bfloat16)
    for shapes, window in (([(1, 9), (1, 150)], None), ([(1, 9), (1, 150), (30, 70)], 50)):
        sight = CAUSAL if window is None else within(window)
        call = made(shapes, sight=sight, window=window, sinks=sinks, dtype=torch.bfloat16)
        with simulated() as npu:
            registry = Registry(paged=[NpuPaged(("cpu",))])
            found = attend(call, registry)
        assert npu.log.ops()[-1] == f"{FUSED}_v2"
        assert npu.log.calls[-1]["learnable_sink"].shape == (4,)
        assert (found.float() - attend_slowly(call).float()).abs().max() <= 3e-2


REFUSED = {
    "softcap": (dict(softcap=30.0), "it has no softcap, asked 30.0"),
    "sight": (dict(sight=Sight(causal)), "what a query sees is neither causal nor a window"),
    "lane": (dict(window=50), "a query sees all tokens, the cache keeps 50"),
    "float32": (dict(dtype=torch.float32), "computes float16 and bfloat16, not torch.float32"),
    "int8": (dict(cache="int8"), "int8 pages are widened before they are attended to"),
    "values": (dict(values=64), "one multiple of 16 up to 512, got 128, 64"),
    "odd head": (dict(dim=72), "one multiple of 16 up to 512, got 72, 72"),
    "wide head": (dict(dim=528), "got 528, 528"),
    "groups": (dict(heads=130, kv_heads=2, dim=16), "64 to a key head; got 130, 2"),
    "block": (dict(size=32), "multiples of 128 tokens up to 512, got 32"),
    "wide": (
        dict(kv_heads=10, heads=130, dim=512, shapes=[(1, 3)]),
        "all heads of a token are at most 65535 numbers, got 66560",
    ),
    "sinks": (dict(dim=64, sinks=torch.zeros(4)), "sinks go packed only: packed, head_dim"),
    "float16 sinks": (dict(sinks=torch.zeros(4, dtype=torch.float16)), "sinks are bfloat16"),
    "pages": (dict(kind=Pages), "the pages are not laid out for an NPU"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why_and_plain_operations_answer(case):
    how, words = REFUSED[case]
    call = made(**{"shapes": [(1, 9), (3, 140)]} | how)
    with simulated() as npu:
        registry = Registry(paged=[NpuPaged(("cpu",))])
        [(name, reason)] = registry.explain_paged(call)
        assert name == "npu pages" and reason is not None and words in reason
        found = attend(call, registry)
    assert npu.log.ops() == []
    assert (found.float() - attend_slowly(call).float()).abs().max() <= 4e-3


def test_chips_and_devices():
    call = made([(1, 9)])
    with simulated("310P"):
        assert NpuPaged(("cpu",)).refuses(call) == "a 310P has no operator for pages"
    assert NpuPaged().refuses(call) == "pages are on cpu, it computes on npu only"
    for chip in ("910B", "910_93", "950"):
        with simulated(chip):
            assert NpuPaged(("cpu",)).refuses(call) is None


class Wrong(NpuPaged):
    """Gives half of what it should."""

    def run(self, call, segments):
        return super().run(call, segments) * 0.5


def test_what_fails_its_self_test_is_passed_over():
    call = made([(1, 9), (3, 140)])
    with simulated():
        registry = Registry(paged=[Wrong(("cpu",))])
        with pytest.warns(RuntimeWarning, match="npu pages failed its self-test"):
            found = attend(call, registry)
    assert (found.float() - attend_slowly(call).float()).abs().max() <= 4e-3
