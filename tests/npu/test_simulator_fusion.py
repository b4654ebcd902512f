"""npu_fusion_attention against plain softmax attention, and its documented constraints."""

from typing import Any

import pytest
import torch

from tests.npu.reference import close, seen, softmax_attention
from tests.npu.simulator.checks import LENIENT, AclnnError, NotSimulated, SilentlyWrong
from tests.npu.simulator.tier0 import stand_in

B, N, D = 2, 4, 32
SCALE = D**-0.5
TRIANGLE = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
LAYOUTS = {
    "BNSD": lambda x: x,
    "BSND": lambda x: x.transpose(1, 2),
    "BSH": lambda x: x.transpose(1, 2).flatten(2),
    "SBH": lambda x: x.permute(2, 0, 1, 3).flatten(2),
}


def tensors(rows=7, keys=9, kv_heads=N, dtype=torch.bfloat16, batch=B, dim=D):
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, N, rows, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def fusion(q, k, v, version: Any = "", **options: Any):
    name = f"npu_fusion_attention{version}"
    return getattr(torch.ops.npu, name)(q, k, v, N, **{"input_layout": "BNSD", **options})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_shared_heads(npu, layout, kv_heads, dtype):
    q, k, v = tensors(kv_heads=kv_heads, dtype=dtype)
    arrange = LAYOUTS[layout]
    out, top, total, *_ = fusion(*map(arrange, (q, k, v)), input_layout=layout, scale=SCALE)
    close(out, arrange(softmax_attention(q, k, v, SCALE)))
    assert out.dtype == dtype and out.is_contiguous()
    assert top.shape == total.shape == (B, N, 7, 8) and top.dtype == torch.float32


def test_scale_is_one_unless_said(npu):
    q, k, v = tensors()
    close(fusion(q, k, v)[0], softmax_attention(q, k, v, 1.0))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(7, 9), (1, 1, 7, 9), (B, 1, 7, 9), (B, N, 7, 9)])
def test_a_mask_drops_where_it_is_true(npu, shape, dtype):
    q, k, v = tensors()
    drop = torch.rand(shape, generator=torch.Generator().manual_seed(2)) > 0.6
    drop[..., 0] = False
    out = fusion(q, k, v, scale=SCALE, atten_mask=drop.to(dtype))[0]
    close(out, softmax_attention(q, k, v, SCALE, keep=~drop))


@pytest.mark.parametrize("rows, keys", [(7, 9), (9, 7), (5, 5), (1, 6)])
@pytest.mark.parametrize("mode", [2, 3, 4])
def test_compressed_modes(npu, mode, rows, keys):
    q, k, v = tensors(rows, keys)
    reach = {"pre_tockens": 4, "next_tockens": 2} if mode == 4 else {}
    options = {"inner_precise": 2 if mode == 4 else 0, **reach}
    out = fusion(q, k, v, scale=SCALE, atten_mask=TRIANGLE, sparse_mode=mode, **options)[0]
    close(out, softmax_attention(q, k, v, SCALE, keep=seen(rows, keys, mode, *reach.values())))


def test_the_reach_counts_from_the_top_left_in_mode_0_and_only_with_a_mask(npu):
    q, k, v = tensors()
    none, reach = torch.zeros(7, 9, dtype=torch.bool), {"pre_tockens": 3, "next_tockens": 1}
    out = fusion(q, k, v, scale=SCALE, atten_mask=none, **reach)[0]
    close(out, softmax_attention(q, k, v, SCALE, keep=seen(7, 9, 0, 3, 1)))
    whole = softmax_attention(q, k, v, SCALE)
    close(fusion(q, k, v, scale=SCALE, **reach)[0], whole)
    close(fusion(q, k, v, scale=SCALE, atten_mask=none, sparse_mode=1, **reach)[0], whole)


@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("mode", [0, 2, 3, 4])
def test_packed_sequences(npu, mode, kv_heads):
    q, k, v = tensors(8, 11, kv_heads, batch=1)
    q_ends, k_ends = [3, 3, 8], [4, 6, 11]
    packed = [x[0].transpose(0, 1).contiguous() for x in (q, k, v)]
    mask = None if mode == 0 else TRIANGLE
    reach = {"pre_tockens": 2, "next_tockens": 1} if mode == 4 else {}
    lengths = {"actual_seq_qlen": q_ends, "actual_seq_kvlen": k_ends}
    options = {"input_layout": "TND", "scale": SCALE, "sparse_mode": mode, **lengths, **reach}
    out, top, *_ = fusion(*packed, atten_mask=mask, **options)
    for a, b, c, d in [(0, 3, 0, 4), (3, 8, 6, 11)]:
        keep = None if mode == 0 else seen(b - a, d - c, mode, *reach.values())
        want = softmax_attention(q[:, :, a:b], k[:, :, c:d], v[:, :, c:d], SCALE, keep)
        close(out[a:b], want[0].transpose(0, 1))
    assert out.shape == (8, N, D) and top.shape == (8, N, 8)


def test_packed_sequences_that_take_no_part(npu):
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in tensors(8, 8, batch=1))
    options = {"input_layout": "TND", "scale": SCALE}
    want = fusion(q, k, v, actual_seq_qlen=[8], actual_seq_kvlen=[8], **options)[0]
    got = fusion(q, k, v, actual_seq_qlen=[8, 0], actual_seq_kvlen=[8, 0], **options)[0]
    assert torch.equal(got, want)


@pytest.mark.parametrize("shape", [(B, N, 7, 9), (B, N, 1, 9), (1, N, 7, 9)])
def test_a_bias_before_or_after_the_scale(npu, shape):
    q, k, v = tensors()
    pse = torch.randn(shape, generator=torch.Generator().manual_seed(3)).bfloat16()
    after = fusion(q, k, v, "_v2", scale=SCALE, pse=pse, pse_type=0)[0]
    close(after, softmax_attention(q, k, v, SCALE, bias=pse), 2e-2)
    before = fusion(q, k, v, "_v2", scale=SCALE, pse=pse)[0]
    close(before, softmax_attention(q, k, v, SCALE, bias=pse.double() * SCALE), 2e-2)
    with pytest.raises(SilentlyWrong, match="pse_type=0"):
        fusion(q, k, v, scale=SCALE, pse=pse)
    close(fusion(q, k, v, scale=1.0, pse=pse)[0], softmax_attention(q, k, v, 1.0, bias=pse), 2e-2)


def test_a_sink_takes_its_share(npu):
    q, k, v = tensors()
    sink = torch.linspace(-1, 1, N)
    out = fusion(q, k, v, scale=SCALE, sink=sink)[0]
    scores = torch.einsum("bnid,bnjd->bnij", q.double(), k.double()) * SCALE
    share = torch.cat((scores, sink.double().view(1, N, 1, 1).expand(B, N, 7, 1)), -1).softmax(-1)
    close(out, share[..., :-1] @ v.double())


def test_v3_takes_lengths_as_tensors(npu):
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in tensors(8, 8, batch=1))
    ends = torch.tensor([3, 8])
    options = {"input_layout": "TND", "scale": SCALE}
    lengths = {"actual_seq_qlen": ends, "actual_seq_kvlen": ends}
    got = fusion(q, k, v, "_v3", **options, **lengths)[0]
    want = fusion(q, k, v, **options, actual_seq_qlen=[3, 8], actual_seq_kvlen=[3, 8])[0]
    assert torch.equal(got, want)


def test_blind_rows(npu):
    q, k, v = tensors()
    drop = torch.zeros(7, 9, dtype=torch.bool)
    drop[2] = True
    with pytest.raises(SilentlyWrong, match="1 rows of the mask are wholly dropped"):
        fusion(q, k, v, scale=SCALE, atten_mask=drop)
    out = fusion(q, k, v, scale=SCALE, atten_mask=drop, inner_precise=2)[0]
    assert (out[:, :, 2] == 0).all()
    close(out, softmax_attention(q, k, v, SCALE, keep=~drop))


def test_lenient_averages_blind_rows():
    q, k, v = tensors()
    drop = torch.zeros(7, 9, dtype=torch.bool)
    drop[2] = True
    with stand_in(strict=LENIENT):
        out = fusion(q, k, v, scale=0.0, atten_mask=drop)[0]
    close(out[:, :, 2], v.double().mean(2))


MASK = {"atten_mask": TRIANGLE}
REFUSED = {
    "atten_mask shape": {"atten_mask": torch.zeros(B, 1, 1, 9, dtype=torch.bool)},
    "atten_mask shape (7,)": {"atten_mask": torch.zeros(7, dtype=torch.bool)},
    "atten_mask is torch.bfloat16": {"atten_mask": torch.zeros(7, 9, dtype=torch.bfloat16)},
    "atten_mask is torch.int8": {"atten_mask": torch.zeros(7, 9, dtype=torch.int8)},
    "needs an atten_mask": {"sparse_mode": 3},
    "compressed 2048x2048": {"sparse_mode": 3, "atten_mask": TRIANGLE[:7, :9]},
    "must be triu": {"sparse_mode": 2, "atten_mask": ~TRIANGLE},
    "do not meet": {"sparse_mode": 4, "pre_tockens": -3, "next_tockens": 1, **MASK},
    "is not in 0..6": {"sparse_mode": 7, **MASK},
    "needs 3": {"input_layout": "BSH"},
    "is none of BSH": {"input_layout": "BNDS"},
    "actual_seq_": {"actual_seq_qlen": [7, 14]},
    "padding_mask": {"padding_mask": torch.zeros(7, 9)},
    "pse is torch.float32": {"pse": torch.zeros(B, N, 7, 9)},
    "pse shape": {"pse": torch.zeros(B, 1, 7, 9, dtype=torch.bfloat16)},
    "sink must be float32": {"sink": torch.zeros(N, dtype=torch.bfloat16)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    with pytest.raises(AclnnError, match=message.replace("(", r"\(").replace(")", r"\)")):
        fusion(*tensors(), **REFUSED[message])


@pytest.mark.parametrize("options", [{"keep_prob": 0.9}, {"sparse_mode": 5, **MASK}])
def test_what_is_not_known_is_said(npu, options):
    with pytest.raises(NotSimulated):
        fusion(*tensors(), **options)
