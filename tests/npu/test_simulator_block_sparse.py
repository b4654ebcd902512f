"""npu_block_sparse_attention against attention with the blocks' mask written out."""

import pytest
import torch

from tests.npu.reference import close, softmax_attention
from tests.npu.simulator.checks import AclnnError, SilentlyWrong
from tests.npu.simulator.tier0 import stand_in

N, D, X, Y = 4, 64, 32, 128


def drawn(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).half()


def chosen(*shape):
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(4)) > 0.4).char()
    mask[..., 0] = 1
    return mask


def sparse(q, k, v, mask, **options):
    given = {"num_key_value_heads": k.shape[1], "scale_value": 0.125}
    return torch.ops.npu.npu_block_sparse_attention(q, k, v, mask, [X, Y], **given | options)


def written_out(mask, rows, keys):
    return mask.bool().repeat_interleave(X, 2).repeat_interleave(Y, 3)[:, :, :rows, :keys]


DENSE = {"q_input_layout": "BNSD", "kv_input_layout": "BNSD"}


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_one_means_compute(npu, kv_heads):
    q, k, v = drawn(2, N, 70, D), drawn(2, kv_heads, 300, D), drawn(2, kv_heads, 300, D)
    mask = chosen(2, N, 3, 3)
    out, lse = sparse(q, k, v, mask, **DENSE)
    close(out, softmax_attention(q, k, v, 0.125, keep=written_out(mask, 70, 300)))
    assert lse.shape == (2, N, 70, 1)


def test_a_row_without_a_block_gives_zero(npu):
    q, k, v = drawn(1, N, 40, D), drawn(1, N, 200, D), drawn(1, N, 200, D)
    mask = torch.ones(1, N, 2, 2, dtype=torch.int8)
    mask[:, 1, 0] = 0
    assert (sparse(q, k, v, mask, **DENSE)[0][:, 1, :32] == 0).all()


def test_packed_sequences_have_lengths_that_do_not_add_up(npu):
    q, k, v = drawn(1, N, 90, D), drawn(1, N, 330, D), drawn(1, N, 330, D)
    mask = chosen(2, N, 2, 2)
    a, b, c = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))
    lengths = {"actual_seq_lengths": [30, 60], "actual_seq_lengths_kv": [130, 200]}
    out, lse = sparse(a, b, c, mask, **lengths)
    for row, (a, b, c, d) in enumerate([(0, 30, 0, 130), (30, 90, 130, 330)]):
        keep = written_out(mask[row : row + 1], b - a, d - c)
        want = softmax_attention(q[:, :, a:b], k[:, :, c:d], v[:, :, c:d], 0.125, keep)
        close(out[a:b], want[0].transpose(0, 1))
    assert lse.shape == (90, N, 1)


Q, K = drawn(1, N, 40, D), drawn(1, N, 200, D)
M = torch.ones(1, N, 2, 2, dtype=torch.int8)
REFUSED = {
    "needs int8": (Q, K, M.bool(), DENSE),
    r"needs int8 \(1, 4, 2, 2\)": (Q, K, M[:, :, :1], DENSE),
    "both layouts": (Q, K, M, {"q_input_layout": "BNSD"}),
    "TND needs 3 axes": (Q, K, M, {}),
    "dtypes must be": (Q.float(), K.float(), M, DENSE),
    "needs inner_precise": (Q.bfloat16(), K.bfloat16(), M, DENSE),
    "head size 32": (Q[..., :32], K[..., :32], M, DENSE),
    "asked 1": (Q, K, M, {**DENSE, "num_key_value_heads": 1}),
    "TND needs actual_seq_lengths": (Q[0].transpose(0, 1), K[0].transpose(0, 1), M, {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    q, k, mask, options = REFUSED[message]
    with pytest.raises(AclnnError, match=message):
        sparse(q, k, k, mask, **options)


def test_blocks_of_keys_are_whole_128s(npu):
    with pytest.raises(AclnnError, match="multiple of 128"):
        torch.ops.npu.npu_block_sparse_attention(
            Q, K, K, M, [32, 64], num_key_value_heads=N, **DENSE
        )


def test_the_default_scale_is_zero(npu):
    with pytest.raises(SilentlyWrong, match="scale_value is 0"):
        sparse(Q, K, K, M, scale_value=0.0, **DENSE)


def test_only_some_chips_have_it():
    with stand_in("Ascend950PR_9579"), pytest.raises(AclnnError, match="does not exist"):
        sparse(Q, K, K, M, **DENSE)
