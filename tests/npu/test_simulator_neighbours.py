"""Norms, rotary embedding and gated activations against torch's own, and their constraints."""

import pytest
import torch
from torch.nn import functional as F

from tests.npu.reference import close
from tests.npu.simulator.checks import AclnnError

DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def drawn(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("over", [(8,), (3, 8)])
def test_rms_norm(npu, dtype, over):
    x, gamma = drawn(2, 3, 8, dtype=dtype), drawn(*over, dtype=dtype)
    out, inverse = torch.ops.npu.npu_rms_norm(x, gamma, 1e-5)
    close(out, F.rms_norm(x.double(), over, gamma.double(), 1e-5))
    assert out.dtype == dtype and inverse.dtype == torch.float32


def test_add_rms_norm_gives_the_sum_too(npu):
    x, y, gamma = drawn(2, 8), drawn(3, 8)[:2], drawn(8)
    out, inverse, total = torch.ops.npu.npu_add_rms_norm(x, y, gamma)
    assert torch.equal(total, x + y) and inverse.shape == (2, 1)
    close(out, F.rms_norm(total.double(), (8,), gamma.double(), 1e-6))


def test_rotary_by_halves(npu):
    x, angle = drawn(2, 3, 4, 8), torch.arange(8.0).view(1, 1, 1, 8).repeat(1, 3, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.cat((-x[..., 4:], x[..., :4]), -1)
    close(torch.ops.npu.npu_rotary_mul(x, cos, sin), x * cos + turned * sin)


def test_rotary_by_pairs_turns_each_pair(npu):
    x, angle = drawn(2, 4, 3, 8), drawn(3, 4)
    wide = angle.repeat_interleave(2, -1).view(1, 1, 3, 8)
    got = torch.ops.npu.npu_rotary_mul(x, wide.cos(), wide.sin(), "interleave")
    turned = torch.view_as_complex(x.unflatten(-1, (4, 2))) * torch.polar(torch.ones(()), angle)
    close(got, torch.view_as_real(turned).flatten(-2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_activations(npu, dtype):
    x = drawn(3, 16, dtype=dtype)
    first, second = x.double().chunk(2, -1)
    close(torch.ops.npu.npu_swiglu(x), F.silu(first) * second)
    tanh, exact = F.gelu(second, approximate="tanh"), F.gelu(second)
    close(torch.ops.npu.npu_geglu(x)[0], first * tanh)
    out, gelu = torch.ops.npu.npu_geglu(x, -1, 0)
    close(out, first * exact)
    close(gelu, exact)
    close(torch.ops.npu.npu_geglu(x, -1, 0, True)[0], second * F.gelu(first))
    close(torch.ops.npu.npu_fast_gelu(x), x.double() * torch.sigmoid(1.702 * x.double()))


X = drawn(2, 4, 3, 8)
C = drawn(1, 1, 3, 8)
OPS = torch.ops.npu
REFUSED = {
    "gamma": lambda: OPS.npu_rms_norm(X, drawn(4)),
    "input is torch.int32": lambda: OPS.npu_rms_norm(X.int(), drawn(8)),
    "x1 is": lambda: OPS.npu_add_rms_norm(X, X[:1], drawn(8)),
    "rotary_mode 'quarter'": lambda: OPS.npu_rotary_mul(X, C, C, "quarter"),
    "3 or 4 axes": lambda: OPS.npu_rotary_mul(X, C[0], C[0]),
    "r1 and r2 differ": lambda: OPS.npu_rotary_mul(X, C, C[..., :4]),
    "must be even": lambda: OPS.npu_rotary_mul(X[..., :7], C[..., :7], C[..., :7]),
    "r1 ends in 4": lambda: OPS.npu_rotary_mul(X, C[..., :4], C[..., :4]),
    "does not broadcast": lambda: OPS.npu_rotary_mul(X, C[:, :, :2], C[:, :, :2]),
    "r1 as 11SD": lambda: OPS.npu_rotary_mul(X, *[drawn(2, 1, 3, 8)] * 2, "interleave"),
    "needs < 1000": lambda: OPS.npu_rotary_mul(drawn(40, 25, 3, 8), C, C, "interleave"),
    "has no halves": lambda: OPS.npu_swiglu(X[..., :7]),
    "approximate 2": lambda: OPS.npu_geglu(X, -1, 2),
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    with pytest.raises(AclnnError, match=message):
        REFUSED[message]()
