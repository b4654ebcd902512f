"""Pages laid out for an NPU are, to everybody else, like all others."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

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
    assert isinstance(keys, NpuPages) and keys.rows.shape == (BLOCKS, SIZE, HEADS, DIM)
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
