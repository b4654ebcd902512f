"""The kernels in C beside torch's own operators, for widths with and without a rest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mindsd.attention.cpu_fused_kernels import activate_, gated, group_norm, layer_norm, why_absent

pytestmark = pytest.mark.skipif(why_absent() is not None, reason=str(why_absent()))
BOTH = [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)]


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (1 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))).to(dtype)


def apart(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())


@pytest.mark.parametrize("dtype, most", BOTH)
@pytest.mark.parametrize(
    "shape, groups", [((2, 128, 9, 7), 32), ((3, 24, 1, 5), 4), ((1, 6, 40, 30), 1)]
)
@pytest.mark.parametrize("activation", ["none", "silu"])
def test_a_group_norm_with_what_stands_beside_it(dtype, most, shape, groups, activation):
    x, add = drawn(*shape, dtype=dtype), drawn(*shape[:2], dtype=dtype)
    weight, bias = drawn(shape[1], dtype=dtype), drawn(shape[1], dtype=dtype)
    expected = F.group_norm(x + add[:, :, None, None], groups, weight, bias, 1e-5)
    expected = F.silu(expected) if activation == "silu" else expected
    for count in (1, 3):  # threads, some of them without a pixel
        torch.set_num_threads(count)
        found = group_norm(x, groups, weight, bias, 1e-5, activation, add)
        torch.set_num_threads(1)
        assert apart(found, expected) <= most
        assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    alone = group_norm(x, groups, None, None, 1e-5)
    assert apart(alone, F.group_norm(x, groups, eps=1e-5)) <= most


def test_a_group_norm_of_a_large_image_is_exact():
    x = drawn(1, 4, 300, 200) + 100
    expected = F.group_norm(x.double(), 2, eps=1e-5)
    assert apart(group_norm(x, 2, None, None, 1e-5), expected) <= 1e-4


@pytest.mark.parametrize("dtype, most", BOTH)
@pytest.mark.parametrize("shape", [(2, 5, 64), (3, 2, 37), (4, 15)])
def test_a_layer_norm_with_a_weight_for_all_or_for_each(dtype, most, shape):
    x, width = drawn(*shape, dtype=dtype), shape[-1]
    weight, bias = drawn(width, dtype=dtype), drawn(width, dtype=dtype)
    assert (
        apart(layer_norm(x, weight, bias, 1e-6), F.layer_norm(x, (width,), weight, bias, 1e-6))
        <= most
    )
    assert apart(layer_norm(x, None, None, 1e-6), F.layer_norm(x, (width,), eps=1e-6)) <= most
    each, more = drawn(shape[0], width, dtype=dtype), drawn(shape[0], width, dtype=dtype) * 2
    view = shape[0], *(1,) * (len(shape) - 2), width
    expected = F.layer_norm(x, (width,), eps=1e-6) * each.view(view) + more.view(view)
    assert apart(layer_norm(x, each, more, 1e-6), expected) <= most


@pytest.mark.parametrize("dtype, most", BOTH)
@pytest.mark.parametrize("width", [16, 35])
def test_gates(dtype, most, width):
    x = drawn(2, 5, 2 * width, dtype=dtype)
    half, gate = x.chunk(2, dim=-1)
    assert apart(gated(x, "gelu"), half * F.gelu(gate)) <= most
    assert apart(gated(x, "silu"), half * F.silu(gate)) <= most


@pytest.mark.parametrize("dtype, most", BOTH)
def test_activations_over_all_that_numbers_can_be(dtype, most):
    x = torch.cat([torch.linspace(-20, 20, 2003), torch.tensor([0.0, -1e30, 1e30, -3e38])]).to(
        dtype
    )
    plain = {
        "silu": F.silu(x),
        "gelu": F.gelu(x),
        "gelu_tanh": F.gelu(x, approximate="tanh"),
    }
    for name, expected in plain.items():
        found = activate_(x.clone(), name)
        assert torch.allclose(found, expected, rtol=most, atol=2e-6)
        assert not found.isnan().any()
        odd = activate_(torch.tensor([float("nan"), 1.0]).to(dtype), name)
        assert odd.isnan().tolist() == [True, False]


@pytest.mark.parametrize("mean", [100, 10_000])
def test_a_group_norm_of_numbers_far_from_zero_keeps_what_tells_them_apart(mean):
    x = torch.randn(1, 32, 20, 20, generator=torch.Generator().manual_seed(0)) + mean
    add = torch.linspace(-2, 2, 32)[None]
    expected = F.group_norm((x + add[..., None, None]).double(), 8, eps=1e-5)
    assert apart(group_norm(x, 8, None, None, 1e-5, add=add), expected) <= 3e-7 * mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("odd", [float("inf"), float("nan")])
def test_what_is_no_number_spoils_its_group_as_it_does_torchs(dtype, odd):
    x = drawn(2, 32, 4, 4, dtype=dtype)
    x[0, 1, 2, 3] = x[1, 9, 0, 0] = odd
    for activation, after in (("none", lambda own: own), ("silu", F.silu)):
        expected = after(F.group_norm(x, 8)).isnan()
        assert torch.equal(group_norm(x, 8, None, None, 1e-5, activation).isnan(), expected)
        assert expected.sum() == 2 * 4 * 16


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_what_the_kernels_cannot_read_is_torchs(dtype):
    x, w = drawn(2, 6, 3, 4, dtype=dtype), drawn(6, dtype=dtype)
    expected = F.silu(F.group_norm(x + 1, 3, w, w))
    assert torch.equal(group_norm(x, 3, w, w, 1e-5, "silu", torch.ones(2, 6).to(dtype)), expected)
    rows = x.flatten(2).mT
    assert torch.equal(layer_norm(rows, None, w, 1e-5), F.layer_norm(rows, (6,), None, w))
    each = drawn(2, 6, dtype=dtype)
    expected = F.layer_norm(rows, (6,)) * each[:, None] + each[:, None]
    assert torch.equal(layer_norm(rows, each, each, 1e-5), expected)
    assert torch.equal(gated(rows, "silu"), rows[..., :3] * F.silu(rows[..., 3:]))
    assert torch.equal(activate_(x.clone(), "gelu_tanh"), F.gelu(x, approximate="tanh"))


def test_what_does_not_lie_densely_is_activated_elsewhere():
    x = drawn(4, 6)
    found, before = activate_(x[:, ::2], "silu"), x.clone()
    assert torch.equal(found, F.silu(before[:, ::2])) and torch.equal(x, before)


def test_shapes_that_do_not_fit_are_refused():
    image, row = drawn(2, 8, 3, 3), drawn(4, 5, 8)
    refused = [
        lambda: group_norm(image, 2, drawn(4), drawn(4), 1e-5),
        lambda: group_norm(image, 3, None, None, 1e-5),
        lambda: group_norm(image, 2, None, None, 1e-5, add=drawn(3, 8)),
        lambda: layer_norm(row, drawn(6), None, 1e-5),
        lambda: layer_norm(row, drawn(1), None, 1e-5),
        lambda: layer_norm(row, drawn(3, 8), drawn(3, 8), 1e-5),
    ]
    for call in refused:
        with pytest.raises(RuntimeError):
            call()
    one = drawn(1, 8)  # what torch lets all share, all share here
    assert torch.equal(layer_norm(row, one, one, 1e-5), F.layer_norm(row, (8,)) * one + one)
