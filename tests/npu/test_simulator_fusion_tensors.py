"""What npu_fusion_attention asks of its tensors and lengths, and which chips have it."""

import pytest
import torch

from tests.npu.simulator.checks import AclnnError
from tests.npu.simulator.tier0 import stand_in


def ones(*shape, dtype=torch.float16):
    return torch.ones(shape, dtype=dtype)


def call(q, k, v, heads=4, layout="BNSD", **options):
    return torch.ops.npu.npu_fusion_attention(q, k, v, heads, layout, **options)


Q, K = ones(2, 4, 7, 32), ones(2, 4, 9, 32)
BAD = {
    "query is torch.int8": (Q.char(), K.char(), K.char()),
    "differ in dtype": (Q, K.float(), K),
    "head_num 4, but query has 2": (Q[:, :2], K, K),
    "is not in 1..768": (ones(1, 4, 2, 769), ones(1, 4, 2, 769), ones(1, 4, 2, 769)),
    "query has head size 32, key 16": (Q, K[..., :16], K[..., :16]),
    "4 heads, 3 key heads": (Q, K[:, :3], K[:, :3]),
    "value": (Q, K, K[..., :16]),
    "batch is 2": (Q, K[:1], K[:1]),
}


@pytest.mark.parametrize("message", BAD)
def test_tensors(npu, message):
    with pytest.raises(AclnnError, match=message):
        call(*BAD[message])


T, U = ones(8, 4, 32), ones(9, 4, 32)
LENGTHS = {
    "needs actual_seq_qlen": (None, [9]),
    "needs actual_seq_kvlen": ([8], None),
    "ends at 7": ([7], [9]),
    "must be cumulative": ([5, 3, 8], [3, 6, 9]),
    "differ in length": ([4, 8], [9]),
}


@pytest.mark.parametrize("message", LENGTHS)
def test_lengths(npu, message):
    queries, keys = LENGTHS[message]
    with pytest.raises(AclnnError, match=message):
        call(T, U, U, layout="TND", actual_seq_qlen=queries, actual_seq_kvlen=keys)


def test_a_packed_mask_is_of_the_longest_sequences_and_has_no_blind_row(npu):
    options = {"layout": "TND", "actual_seq_qlen": [3, 8], "actual_seq_kvlen": [5, 9]}
    call(T, U, U, atten_mask=torch.zeros(5, 5, dtype=torch.bool), **options)
    with pytest.raises(AclnnError, match=r"needs \[\(5, 5\)\]"):
        call(T, U, U, atten_mask=torch.zeros(8, 9, dtype=torch.bool), **options)
    blind = torch.zeros(5, 5, dtype=torch.bool)
    blind[1] = True
    with pytest.raises(AclnnError, match="wholly dropped"):
        call(T, U, U, atten_mask=blind, inner_precise=2, **options)


def test_wide_keys_are_for_the_950():
    with stand_in("Ascend950PR_9579"):
        assert call(Q, K, K[..., :16])[0].shape == (2, 4, 7, 16)
    with stand_in("Ascend310P3"), pytest.raises(AclnnError, match="does not exist"):
        call(Q, K, K)
