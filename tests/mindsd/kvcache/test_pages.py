"""Pages: what is written is read again, and those laid out for an NPU are like all others."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.kvcache import pages as pages_module
from mindsd.kvcache.pages import NpuPages, Pages, PageStore, Scratch, page_kind
from mindsd.kvcache.table import Copy
from tests.attention.simulated import simulated

BLOCKS, SIZE, HEADS, DIM = 5, 4, 3, 8


def stores(dtype):
    return [
        PageStore([BLOCKS], SIZE, [0], dtype, lambda device, kind=kind: kind)
        for kind in (Pages, NpuPages)
    ]


def tokens(number, wider=0):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(number, HEADS, DIM + wider, generator=generator)


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_both_kinds_hold_the_same(dtype):
    found, slots = [], torch.tensor([7, 0, 19, 12, 5, 6])
    key, value = tokens(6), tokens(6, wider=2)
    for store in stores(dtype):
        keys, values = store.of(0, 0, key, value)
        for pages, new in ((keys, key), (values, value)):
            pages.write(slots, new)
        store.copy([Copy(0, 1, 2)])
        store.clear(0, [3])
        blocks = torch.tensor([2, 0, 4, 4])
        found.append(
            [
                *(own.data for own in (keys, values)),
                *(own.read(blocks) for own in (keys, values)),
                *(own.read(blocks, Scratch()) for own in (keys, values)),
                *(own.slice(1, 4) for own in (keys, values)),
                torch.tensor(list(store.token_bytes().values())),
            ]
        )
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape and torch.equal(one, other)


def test_an_npu_reads_them_with_the_heads_behind():
    [_, store] = stores("auto")
    keys, _ = store.of(0, 0, tokens(6), tokens(6))
    assert isinstance(keys, NpuPages) and keys.rows.shape == (BLOCKS + 1, SIZE, HEADS, DIM)
    assert keys.rows.is_contiguous() and keys.rows.data_ptr() == keys.data.data_ptr()


def test_keys_and_values_are_written_in_one_call():
    slots, key, value = torch.tensor([7, 0, 19, 12, 5, 6]), tokens(6), tokens(6, wider=2)
    plain, store = stores("auto")
    for own in (plain, store):
        keys, values = own.of(0, 0, key, value)
        with simulated() as npu:
            strided = key.transpose(0, 1).contiguous().transpose(0, 1)
            keys.write_both(values, slots, strided, value)
    [call] = npu.log.calls
    assert call.op == "npu_scatter_pa_kv_cache" and call["cache_mode"] == "Norm"
    for one, other in zip(plain.of(0, 0, key, value), store.of(0, 0, key, value), strict=True):
        assert torch.equal(one.data, other.data) and one.data.any()


def test_int8_pages_are_written_by_plain_operations():
    slots, key = torch.tensor([7, 0, 19]), tokens(3)
    [_, store] = stores("int8")
    keys, values = store.of(0, 0, key, key)
    with simulated() as npu:
        keys.write_both(values, slots, key, key)
    assert npu.log.ops() == []
    assert torch.equal(keys.data, values.data) and keys.data.dtype == torch.int8


def test_the_device_decides(monkeypatch):
    assert page_kind(torch.device("cpu")) is Pages
    for chip, kind in (("910B", NpuPages), ("950", NpuPages), ("310P", Pages), ("other", Pages)):
        monkeypatch.setattr(pages_module, "npu_chip", lambda index, chip=chip: chip)
        assert page_kind(torch.device("meta")) is Pages
        npu: Any = SimpleNamespace(type="npu", index=1)
        assert page_kind(npu) is kind


def test_a_token_lies_at_its_slot_and_elsewhere_is_zero():
    pages, _ = PageStore([BLOCKS], SIZE, [0], "auto").of(0, 0, tokens(2), tokens(2))
    pages.write(torch.tensor([7, 0]), tokens(2))
    first, second = tokens(2)
    assert pages.data.shape == (HEADS, BLOCKS + 1, SIZE, DIM)  # one is nobody's
    assert torch.equal(pages.data[:, 1, 3], first) and torch.equal(pages.data[:, 0, 0], second)
    pages.data[:, 1, 3] = pages.data[:, 0, 0] = 0
    assert not pages.data.any()


def test_blocks_are_read_in_the_order_asked_for():
    keys, _ = PageStore([BLOCKS], SIZE, [0], "auto").of(0, 0, tokens(1), tokens(1))
    keys.write(torch.arange(BLOCKS * SIZE), tokens(BLOCKS * SIZE))
    for scratch in (None, Scratch()):
        read = keys.read(torch.tensor([4, 0, 4]), scratch)
        assert read.shape == (HEADS, 3, SIZE, DIM)
        assert torch.equal(read, torch.stack([keys.data[:, at] for at in (4, 0, 4)], dim=1))
        read.fill_(9)  # a copy, whoever's room it is
    assert torch.equal(keys.data[:, 1, 0], tokens(BLOCKS * SIZE)[SIZE])
    assert keys.slice(1, 3).data_ptr() == keys.data[:, 1:].data_ptr()  # and this is none


def test_int8_is_near_by_the_scale_of_each_token_and_head():
    keys, _ = PageStore([BLOCKS], SIZE, [0], "int8").of(0, 0, tokens(1), tokens(1))
    new = tokens(3) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    new[1, 1] = 0
    new[1, 2] *= 50
    keys.write(torch.tensor([0, 1, 2]), new)
    for read in (keys.read(torch.tensor([0]))[:, 0, :3], keys.slice(0, 1)[:, 0, :3]):
        assert read.dtype == new.dtype
        error = (read - new.transpose(0, 1)).abs().amax(-1)
        assert (error <= 0.5001 * new.transpose(0, 1).abs().amax(-1) / 127).all()
    assert keys.data.max() == 127 or keys.data.min() == -127


def test_int8_is_read_in_the_models_dtype():
    new = tokens(2).bfloat16()
    keys, _ = PageStore([BLOCKS], SIZE, [0], "int8").of(0, 0, new, new)
    keys.write(torch.tensor([0, 1]), new)
    assert keys.read(torch.tensor([0])).dtype == keys.slice(0, 1).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_blocks_are_copied_and_cleared_in_their_lane_alone(dtype):
    store = PageStore([BLOCKS, BLOCKS], SIZE, [0, 1], dtype)
    for layer in (0, 1):
        for pages in store.of(layer, 0, tokens(1), tokens(1)):
            pages.write(torch.arange(BLOCKS * SIZE), tokens(BLOCKS * SIZE))
    written = store.of(0, 0, tokens(1), tokens(1))[0].slice(0, BLOCKS).clone()
    store.copy([Copy(0, 1, 3), Copy(0, 2, 4), Copy(1, 0, 1)])
    store.clear(1, [2, 4])
    store.clear(1, [])
    for layer, sources in ((0, [0, 1, 2, 1, 2]), (1, [0, 0, None, 3, None])):
        for pages in store.of(layer, 0, tokens(1), tokens(1)):
            for block, source in enumerate(sources):
                found = pages.slice(block, block + 1)[:, 0]
                expected = torch.zeros_like(found) if source is None else written[:, source]
                assert torch.equal(found, expected)


def test_layers_have_pages_of_their_own_each_time_they_attend():
    store = PageStore([3, 5], SIZE, [1, 0], "auto")
    first = store.of(0, 0, tokens(1), tokens(1, wider=2))
    assert first[0] is not first[1] and first[1].data.shape == (HEADS, 6, SIZE, DIM + 2)
    assert store.of(0, 0, tokens(4), tokens(4)) is first
    others = [store.of(0, 1, tokens(1), tokens(1)), store.of(1, 0, tokens(1), tokens(1))]
    assert [own[0].data.shape[1] for own in others] == [6, 4]
    assert len({id(page) for own in (first, *others) for page in own}) == 6


def test_what_a_token_takes():
    store = PageStore([BLOCKS], SIZE, [0, 0], "auto")
    assert store.token_bytes() == {"auto": 0, "int8": 0}
    store.of(0, 0, tokens(1), tokens(1, wider=2))
    store.of(1, 0, tokens(1).bfloat16(), tokens(1).bfloat16())
    wide, narrow = (DIM + DIM + 2) * HEADS, 2 * DIM * HEADS
    scales = 4 * HEADS * 4  # of keys and values of both layers
    assert store.token_bytes() == {"auto": 4 * wide + 2 * narrow, "int8": wide + narrow + scales}


def test_room_is_used_again_where_it_fits():
    store = PageStore([BLOCKS], SIZE, [0], "auto")
    scratch, like = store.scratch(0), torch.zeros(1)
    assert store.scratch(0) is scratch and store.scratch(1) is not scratch
    first = scratch.room((2, 6), like)
    smaller = scratch.room((5, 2), like)
    assert smaller.shape == (5, 2) and smaller.data_ptr() == first.data_ptr()
    larger = scratch.room((13,), like)
    assert larger.shape == (13,) and scratch.room((12,), like).data_ptr() == larger.data_ptr()
    assert scratch.room((2,), like.double()).dtype == torch.float64


def test_a_dtype_that_no_cache_has_is_refused():
    with pytest.raises(RequestError, match="must be auto or int8, got 'float16'"):
        PageStore([BLOCKS], SIZE, [0], "float16")
