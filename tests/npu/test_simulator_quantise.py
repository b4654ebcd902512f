"""W8A8: quantising per token and the matmul, against the unquantised product."""

import pytest
import torch

from tests.npu.simulator.checks import AclnnError, NotSimulated

OPS = torch.ops.npu


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_each_token_has_its_scale(npu):
    x = torch.tensor([[127.0, -63.5, 1.0], [0.0, 0.0, 0.0]]).bfloat16()
    values, scale = OPS.npu_dynamic_quant(x)
    assert values.tolist() == [[127, -64, 1], [0, 0, 0]]
    assert scale.tolist() == [1.0, 0.0] and scale.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_product_is_close(npu, dtype, with_bias):
    x, w = drawn(5, 64).to(dtype), drawn(64, 16) / 8
    scale = w.abs().amax(0) / 127
    rounded = (w / scale).round().to(torch.int8)
    bias = drawn(16) if with_bias else None
    values, token = OPS.npu_dynamic_quant(x)
    got = OPS.npu_quant_matmul(
        values, rounded, scale, pertoken_scale=token, bias=bias, output_dtype=dtype
    )
    want = x.float() @ w + (0.0 if bias is None else bias)
    assert got.dtype == dtype
    assert (got.float() - want).norm() / want.norm() < 2e-2


def test_int8_out_unless_said(npu):
    a, b = torch.full((2, 4), 3, dtype=torch.int8), torch.full((4, 2), 5, dtype=torch.int8)
    got = OPS.npu_quant_matmul(a, b, torch.full((2,), 0.5))
    assert got.dtype == torch.int8 and got.tolist() == [[30, 30], [30, 30]]
    bias = torch.full((2,), 4, dtype=torch.int32)
    assert OPS.npu_quant_matmul(a, b, torch.full((2,), 0.5), bias=bias)[0, 0] == 32


A, W, S = torch.ones(2, 4).char(), torch.ones(4, 3).char(), torch.ones(3)
T = torch.ones(2)
REFUSED = {
    "input is torch.float32": lambda: OPS.npu_dynamic_quant(drawn(2, 4)),
    "at least 2": lambda: OPS.npu_dynamic_quant(drawn(4).half()),
    "smooth_scales": lambda: OPS.npu_dynamic_quant(drawn(2, 4).half(), smooth_scales=S.half()),
    "not int8": lambda: OPS.npu_quant_matmul(A.int(), W, S),
    "x1 ends in 2": lambda: OPS.npu_quant_matmul(A.T, W, S),
    "scale is torch.float16": lambda: OPS.npu_quant_matmul(A, W, S.half()),
    "scale is .2,.": lambda: OPS.npu_quant_matmul(A, W, S[:2]),
    "pertoken_scale must be": lambda: OPS.npu_quant_matmul(
        A, W, S, pertoken_scale=S, output_dtype=torch.float16
    ),
    "int8 out takes no": lambda: OPS.npu_quant_matmul(A, W, S, pertoken_scale=T),
    "needs a pertoken_scale": lambda: OPS.npu_quant_matmul(A, W, S, output_dtype=torch.float16),
    "output_dtype": lambda: OPS.npu_quant_matmul(
        A, W, S, pertoken_scale=T, output_dtype=torch.float32
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    with pytest.raises(AclnnError, match=message):
        REFUSED[message]()


def test_packed_scales_are_not_known(npu):
    with pytest.raises(NotSimulated, match="int64"):
        OPS.npu_quant_matmul(A, W, S.long())
