"""npu_fused_infer_attention_score, dense and packed, and its documented constraints."""

import pytest
import torch

from tests.npu.reference import close, seen, softmax_attention
from tests.npu.simulator.checks import LENIENT, AclnnError, NotSimulated, SilentlyWrong
from tests.npu.simulator.tier0 import stand_in

B, N = 2, 4
TRIANGLE = torch.ones(2048, 2048, dtype=torch.bool).triu(1)


def tensors(rows=7, keys=9, kv_heads=N, dtype=torch.float16, batch=B, dim=32):
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, N, rows, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def infer(q, k, v, **options):
    given = {"num_heads": N, "input_layout": "BNSD", "scale": 0.2}
    return torch.ops.npu.npu_fused_infer_attention_score(q, k, v, **given | options)


def packed(x):
    return x[0].transpose(0, 1).contiguous()


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("layout", ["BNSD", "BSND", "BSH"])
def test_layouts_and_shared_heads(npu, layout, kv_heads, rows):
    q, k, v = tensors(rows, kv_heads=kv_heads)

    def arrange(x):
        x = x if layout == "BNSD" else x.transpose(1, 2)
        return (x.flatten(2) if layout == "BSH" else x).contiguous()

    options = {"input_layout": layout, "num_key_value_heads": kv_heads}
    out, lse = infer(*map(arrange, (q, k, v)), **options)
    close(out, arrange(softmax_attention(q, k, v, 0.2)))
    assert lse.shape == (1,)


def test_both_versions_agree(npu):
    q, k, v = tensors()
    out, lse = infer(q, k, v, softmax_lse_flag=True)
    options = {"num_query_heads": N, "input_layout": "BNSD", "softmax_scale": 0.2}
    again = torch.ops.npu.npu_fused_infer_attention_score_v2(
        q, k, v, return_softmax_lse=True, **options
    )
    assert torch.equal(again[0], out) and torch.equal(again[1], lse)
    scores = torch.einsum("bnid,bnjd->bnij", q.double(), k.double()) * 0.2
    close(lse, scores.logsumexp(-1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.uint8])
@pytest.mark.parametrize("shape", [(7, 9), (1, 7, 9), (1, 1, 7, 9), (B, 1, 7, 9)])
def test_masks(npu, shape, dtype):
    q, k, v = tensors()
    drop = torch.rand(shape, generator=torch.Generator().manual_seed(2)) > 0.6
    drop[..., 0] = False
    out, _ = infer(q, k, v, atten_mask=drop.to(dtype))
    close(out, softmax_attention(q, k, v, 0.2, keep=~drop))


@pytest.mark.parametrize("shape", [(B, 9), (B, 1, 1, 9)])
def test_masks_of_one_query_token(npu, shape):
    q, k, v = tensors(rows=1)
    drop = torch.zeros(shape, dtype=torch.bool)
    drop[0, ..., 3:], drop[1, ..., :2] = True, True
    out, _ = infer(q, k, v, atten_mask=drop, pre_tokens=0, next_tokens=0)
    close(out, softmax_attention(q, k, v, 0.2, keep=~drop.view(B, 1, 1, 9)))


@pytest.mark.parametrize("rows, keys", [(7, 9), (9, 7)])
@pytest.mark.parametrize("mode", [2, 3, 4])
def test_compressed_modes(npu, mode, rows, keys):
    q, k, v = tensors(rows, keys)
    reach = {"pre_tokens": 3, "next_tokens": 1} if mode == 4 else {}
    precise = 2 if mode == 4 else 0
    options = {"atten_mask": TRIANGLE, "sparse_mode": mode, "inner_precise": precise}
    out, _ = infer(q, k, v, **options, **reach)
    close(out, softmax_attention(q, k, v, 0.2, keep=seen(rows, keys, mode, *reach.values())))


def test_lengths_of_each_sequence(npu):
    q, k, v = tensors()
    out, _ = infer(q, k, v, actual_seq_lengths=[7, 4], actual_seq_lengths_kv=[5, 9])
    close(out[:1], softmax_attention(q[:1], k[:1, :, :5], v[:1, :, :5], 0.2))
    close(out[1:, :, :4], softmax_attention(q[1:, :, :4], k[1:], v[1:], 0.2))
    assert (out[1, :, 4:] == 0).all()


@pytest.mark.parametrize("rows", [1, 7])
def test_a_bias_is_added_after_the_scale(npu, rows):
    q, k, v = tensors(rows)
    bias = torch.randn(B, N, rows, 9, generator=torch.Generator().manual_seed(3)).half()
    close(infer(q, k, v, pse_shift=bias)[0], softmax_attention(q, k, v, 0.2, bias=bias))


@pytest.mark.parametrize("kv_heads, dim", [(4, 64), (4, 128), (1, 128), (2, 192)])
@pytest.mark.parametrize("mode", [3, 4])
def test_packed_sequences(npu, mode, kv_heads, dim):
    q, k, v = tensors(8, 11, kv_heads, batch=1, dim=dim)
    reach = {"pre_tokens": 2, "next_tokens": 0} if mode == 4 else {}
    lengths = {"actual_seq_lengths": [3, 8], "actual_seq_lengths_kv": [5, 11]}
    options = {"input_layout": "TND", "num_key_value_heads": kv_heads, "sparse_mode": mode}
    out, lse = infer(
        *map(packed, (q, k, v)),
        atten_mask=TRIANGLE.to(torch.int8),
        softmax_lse_flag=True,
        **options,
        **lengths,
        **reach,
    )
    for a, b, c, d in [(0, 3, 0, 5), (3, 8, 5, 11)]:
        keep = seen(b - a, d - c, mode, *reach.values())
        want = softmax_attention(q[:, :, a:b], k[:, :, c:d], v[:, :, c:d], 0.2, keep)
        close(out[a:b], want[0].transpose(0, 1))
    assert lse.shape == (8, N, 1)


def test_packed_without_a_mask_is_reported_as_wrong(npu):
    x = packed(tensors(8, batch=1, dim=128)[0])
    options = {"input_layout": "TND", "actual_seq_lengths": [8], "actual_seq_lengths_kv": [8]}
    with pytest.raises(SilentlyWrong, match="use npu_fusion_attention"):
        infer(x, x, x, **options)
    with pytest.raises(AclnnError, match="takes no mask"):
        infer(x, x, x, **options, atten_mask=torch.zeros(8, 8, dtype=torch.bool))


def test_lenient_computes_it_as_documented():
    x = tensors(8, 8, batch=1, dim=128)[0]
    lengths = {"actual_seq_lengths": [8], "actual_seq_lengths_kv": [8]}
    with stand_in(strict=LENIENT):
        out, _ = infer(*[packed(x)] * 3, input_layout="TND", **lengths)
    close(out, softmax_attention(x, x, x, 0.2)[0].transpose(0, 1))


Q, K, V = tensors()
REFUSED = {
    "query is torch.float32": ((Q.float(), K.float(), V.float()), {}),
    "query is not contiguous": ((Q.mT.contiguous().mT, K, V), {}),
    "value is not contiguous": ((Q, K, V.mT.contiguous().mT), {}),
    "num_key_value_heads 4, key 2": ((Q, K[:, :2].contiguous(), V[:, :2].contiguous()), {}),
    "num_heads 2, query 4": ((Q, K, V), {"num_heads": 2}),
    "must be 16-aligned": (tensors(dim=24), {}),
    "the ratio": ((Q, K, V), {"num_key_value_heads": 3}),
    "inner_precise 4": ((Q, K, V), {"inner_precise": 4}),
    "inner_precise must be 0 or 1": (tensors(rows=1), {"inner_precise": 2}),
    "is not in 0..4": ((Q, K, V), {"sparse_mode": 5}),
    "needs an atten_mask": ((Q, K, V), {"sparse_mode": 3}),
    "atten_mask shape": ((Q, K, V), {"atten_mask": torch.zeros(B, N, 7, 9, dtype=torch.bool)}),
    "exceeds 9 keys": ((Q, K, V), {"actual_seq_lengths_kv": [9, 10]}),
    "neither one nor one for each": (tensors(batch=3), {"actual_seq_lengths_kv": [9, 9]}),
    "block_size without": ((Q, K, V), {"block_size": 128}),
    "pse_shift must be": ((Q, K, V), {"pse_shift": torch.zeros(B, 1, 7, 9).half()}),
    "wholly dropped": ((Q, K, V), {"atten_mask": torch.ones(7, 9, dtype=torch.bool)}),
    "needs 4": ((Q, K[0], V[0]), {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    inputs, options = REFUSED[message]
    with pytest.raises(AclnnError, match=message):
        infer(*inputs, **options)


T = packed(tensors(8, 8, batch=1, dim=128)[0])
S = packed(tensors(8, 8, batch=1, dim=64)[0])
ONE = {"actual_seq_lengths": [8], "actual_seq_lengths_kv": [8]}
CAUSAL = {"sparse_mode": 3, "atten_mask": TRIANGLE}
PACKED = {
    "TND needs actual_seq_lengths": ((T, T, T), {}),
    "end at 8": ((T, T, T), {**ONE, "actual_seq_lengths": [7]}),
    "actual_seq_lengths_kv must be cumulative": ((T, T, T), {**ONE, "actual_seq_lengths_kv": [9]}),
    "kv differ": ((T, T, T), {**ONE, "actual_seq_lengths_kv": [4, 8]}),
    "TND head size 64": ((S, S[:, :2].contiguous(), S[:, :2].contiguous()), ONE),
    "TND head size 32": ((T[..., :32].contiguous(),) * 3, ONE),
    "TND takes no pse_shift": ((T, T, T), {**ONE, "pse_shift": T}),
    "TND sparse_mode 2": ((T, T, T), {**ONE, "sparse_mode": 2, "atten_mask": TRIANGLE}),
    "TND inner_precise must be in .0,.": ((T.bfloat16(),) * 3, {**ONE, "inner_precise": 1}),
}


@pytest.mark.parametrize("message", PACKED)
def test_documented_constraints_of_packed_sequences(npu, message):
    (q, k, v), options = PACKED[message]
    with pytest.raises(AclnnError, match=message):
        infer(q, k, v, input_layout="TND", num_key_value_heads=k.shape[1], **CAUSAL | options)


def test_chips_and_key_dtypes(npu):
    with pytest.raises(NotSimulated, match="another dtype"):
        infer(Q, K.char(), V.char())


def test_310p_has_it_not():
    with stand_in("Ascend310P3"), pytest.raises(AclnnError, match="does not exist"):
        infer(Q, K, V)
