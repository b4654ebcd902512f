"""Whole blocks of keys left out, on a simulated NPU."""

import pytest
import torch

from mindsd.attention.contract import Call
from mindsd.attention.cpu import Reference
from mindsd.attention.npu_sparse import attend_blocks
from mindsd.errors import AttentionRefused
from tests.attention.simulated import simulated


def tensors(tq=200, tk=300, heads=4, kv_heads=2, dim=64, dtype=torch.float16):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, heads, tq, dim), (2, kv_heads, tk, dim), (2, kv_heads, tk, dim)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def chosen(q, k, block):
    sides = (-(-q.shape[2] // block[0]), -(-k.shape[2] // block[1]))
    generator = torch.Generator().manual_seed(1)
    return torch.rand(*q.shape[:2], *sides, generator=generator) > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("block", [(128, 128), (64, 256)])
def test_chosen_blocks_are_those_that_are_computed(block, dtype):
    q, k, v = tensors(dtype=dtype)
    computed = chosen(q, k, block)
    computed[0, 0, 0] = False  # nothing
    with simulated() as npu:
        found = attend_blocks(q, k, v, computed, block)
        [call] = npu.log.calls
    keep = computed.repeat_interleave(block[0], 2).repeat_interleave(block[1], 3)
    call_of = Call(q.float(), k.float(), v.float(), mask=keep[:, :, : q.shape[2], : k.shape[2]])
    expected = Reference().run(call_of)
    assert (found.float() - expected).abs().max() <= (3e-3 if dtype == torch.float16 else 2e-2)
    assert not found[0, 0, : block[0]].any()
    assert call["block_sparse_mask"].dtype == torch.int8 and call["inner_precise"] == 0
    assert call["scale_value"] == 1 / 8 and call["num_key_value_heads"] == 2


@pytest.mark.parametrize(
    "chip, how, block, words",
    [
        ("950", {}, (128, 128), "a 950 has no operator for it"),
        ("910B", {"dtype": torch.float32}, (128, 128), "float16 and bfloat16, got torch.float32"),
        ("910B", {"dim": 96}, (128, 128), "head_dim must be one of 64, 128"),
        ("910B", {}, (128, 64), "a block has a multiple of 128 keys, got (128, 64)"),
        ("910B", {"kv_heads": 3}, (128, 128), "a multiple of key heads, got 4, 3"),
    ],
)
def test_refusals(chip, how, block, words):
    q, k, v = tensors(**how)
    with simulated(chip), pytest.raises(AttentionRefused) as caught:
        attend_blocks(q, k, v, chosen(q, k, block), block)
    assert words in str(caught.value)


def test_a_mask_of_other_blocks_is_refused():
    q, k, v = tensors()
    with simulated(), pytest.raises(AttentionRefused, match=r"must be bool \(2, 4, 2, 3\)"):
        attend_blocks(q, k, v, chosen(q, k, (64, 128)))
