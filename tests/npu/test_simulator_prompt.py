"""npu_prompt_flash_attention against plain softmax attention, and what 310P leaves out."""

import pytest
import torch

from tests.npu.reference import close, seen, softmax_attention
from tests.npu.simulator.checks import LENIENT, AclnnError, SilentlyWrong
from tests.npu.simulator.tier0 import stand_in

FAR = 2147483647
B, N, D = 2, 4, 32
SCALE = D**-0.5
TRIANGLE = torch.ones(2048, 2048, dtype=torch.bool).triu(1)


def tensors(rows=7, keys=9, kv_heads=N, dtype=torch.float16):
    generator = torch.Generator().manual_seed(1)
    shapes = (B, N, rows, D), (B, kv_heads, keys, D), (B, kv_heads, keys, D)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def prompt(q, k, v, **options):
    given = {"num_heads": N, "input_layout": "BNSD", "scale_value": SCALE, "next_tokens": FAR}
    return torch.ops.npu.npu_prompt_flash_attention(q, k, v, **given | options)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("layout", ["BNSD", "BSND", "BSH"])
def test_layouts_and_shared_heads(npu, layout, kv_heads):
    q, k, v = tensors(kv_heads=kv_heads)

    def arrange(x):
        x = x if layout == "BNSD" else x.transpose(1, 2)
        return (x.flatten(2) if layout == "BSH" else x).contiguous()

    out = prompt(*map(arrange, (q, k, v)), input_layout=layout, num_key_value_heads=kv_heads)
    close(out, arrange(softmax_attention(q, k, v, SCALE)))


@pytest.mark.parametrize("shape", [(7, 9), (1, 7, 9), (B, 7, 9), (1, 1, 7, 9), (B, 1, 7, 9)])
def test_masks(npu, shape):
    q, k, v = tensors()
    drop = torch.rand(shape, generator=torch.Generator().manual_seed(2)) > 0.6
    drop[..., 0] = False
    keep = ~(drop.unsqueeze(1) if drop.dim() == 3 else drop)
    close(prompt(q, k, v, atten_mask=drop), softmax_attention(q, k, v, SCALE, keep=keep))


@pytest.mark.parametrize("mode", [2, 3, 4])
def test_compressed_modes(npu, mode):
    q, k, v = tensors()
    reach = {"pre_tokens": 5, "next_tokens": 1} if mode == 4 else {}
    out = prompt(q, k, v, atten_mask=TRIANGLE, sparse_mode=mode, **reach)
    close(out, softmax_attention(q, k, v, SCALE, keep=seen(7, 9, mode, *reach.values())))


def test_a_bias_is_added_after_the_scale(npu):
    q, k, v = tensors()
    bias = torch.randn(1, N, 7, 9, generator=torch.Generator().manual_seed(3)).half()
    close(prompt(q, k, v, pse_shift=bias), softmax_attention(q, k, v, SCALE, bias=bias))


def test_the_default_reach_is_causal_with_a_mask_and_refused_without(npu):
    q, k, v = tensors()
    none = torch.zeros(7, 9, dtype=torch.bool)
    causal = softmax_attention(q, k, v, SCALE, keep=seen(7, 9, 0, after=0))
    close(prompt(q, k, v, atten_mask=none, next_tokens=0), causal)
    with pytest.raises(SilentlyWrong, match="pass 2147483647"):
        prompt(q, k, v, next_tokens=0)


def test_lenient_ignores_it_as_documented():
    q, k, v = tensors()
    with stand_in(strict=LENIENT):
        close(prompt(q, k, v, next_tokens=0), softmax_attention(q, k, v, SCALE))


Q, K, V = tensors()
REFUSED = {
    "query is torch.float32": ((Q.float(), K.float(), V.float()), {}),
    "differ in dtype": ((Q, K.bfloat16(), V), {}),
    "not contiguous": ((Q.transpose(2, 3).contiguous().transpose(2, 3), K, V), {}),
    "num_key_value_heads": ((Q, K[:, :2].contiguous(), V[:, :2].contiguous()), {}),
    "num_heads is not": ((Q, K, V), {"num_heads": 2}),
    "is none of BSH": ((Q, K, V), {"input_layout": "SBH"}),
    "is not in 0..4": ((Q, K, V), {"sparse_mode": 5}),
    "atten_mask shape": ((Q, K, V), {"atten_mask": torch.zeros(B, N, 7, 9, dtype=torch.bool)}),
    "wholly dropped": ((Q, K, V), {"atten_mask": torch.ones(7, 9, dtype=torch.bool)}),
    "pse_shift is torch.float32": ((Q, K, V), {"pse_shift": torch.zeros(1, N, 7, 9)}),
    "pse_shift is": ((Q, K, V), {"pse_shift": torch.zeros(1, 1, 7, 9).half()}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    inputs, options = REFUSED[message]
    with pytest.raises(AclnnError, match=message):
        prompt(*inputs, **options)


ON_310P = {
    "float16 only": {"dtype": torch.bfloat16},
    "num_key_value_heads": {"num_key_value_heads": 4},
    "sparse_mode": {"sparse_mode": 3, "atten_mask": TRIANGLE},
    "pre_tokens": {"pre_tokens": 5},
    "next_tokens must be": {"next_tokens": 3},
    "pse_shift": {"pse_shift": torch.zeros(1, N, 7, 9).half()},
    "actual_seq_lengths": {"actual_seq_lengths": [7, 7]},
}


@pytest.mark.parametrize("message", ON_310P)
def test_310p_takes_less(message):
    options = dict(ON_310P[message])
    inputs = tensors(dtype=options.pop("dtype", torch.float16))
    with stand_in("Ascend310P3"), pytest.raises(AclnnError, match=message):
        prompt(*inputs, **options)


def test_310p_computes_and_the_950_does_not():
    with stand_in("Ascend310P3") as npu:
        close(prompt(Q, K, V), softmax_attention(Q, K, V, SCALE))
        assert npu.log.ops() == ["npu_prompt_flash_attention"]
    with stand_in("Ascend950PR_9579"), pytest.raises(AclnnError, match="does not exist"):
        prompt(Q, K, V)
