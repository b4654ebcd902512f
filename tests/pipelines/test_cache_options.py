"""How large the blocks of the KV cache are, and how many."""

import pytest
import torch

from mindsd.device import Device
from mindsd.errors import RequestError
from mindsd.pipelines.cache_options import CacheOptions


def place(kind):
    return Device(kind, "", torch.float16, 2**30)


@pytest.mark.parametrize("kind, tokens", [("cpu", 32), ("cuda", 32), ("npu", 128)])
def test_blocks_are_as_large_as_the_device_reads_fastest(kind, tokens):
    assert CacheOptions().on(place(kind)).block == tokens
    assert CacheOptions(block=16).on(place(kind)).block == 16


def test_memory_is_divided_into_blocks():
    own = CacheOptions(memory=10_000).on(place("npu"))
    assert own.blocks({"auto": 10, "int8": 6}, place("npu")) == 7
    with pytest.raises(RequestError, match=r"not one block of 12800 bytes \(128 tokens\)"):
        own.blocks({"auto": 100, "int8": 60}, place("npu"))


@pytest.mark.parametrize("block", [-1, 4097])
def test_sizes_that_are_none(block):
    with pytest.raises(RequestError, match=f"1 to 4096 tokens, got {block}"):
        CacheOptions(block=block)
