"""Prepacked convolutions: the same products but for rounding, channels last, without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mindsd.packed_weight import PackedWeight
from mindsd.prepack import After, Prepacked, followed
from mindsd.prepack_conv import CONV, PIXELS, can_prepack_conv, can_prepack_pixels

DTYPES = [torch.float32, torch.bfloat16]
if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
    DTYPES.pop()
SETTINGS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1, "bias": False},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": (3, 5), "padding": (2, 1), "dilation": 2},
    {"kernel_size": 3, "padding": 1, "groups": 8},
]


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", SETTINGS)
@torch.inference_mode()
def test_products_are_the_same_but_for_rounding(settings, dtype, release):
    torch.manual_seed(0)
    with torch.inference_mode(False):  # a weight made in it stays as it is
        own = nn.Sequential(nn.Conv2d(24, 16, **settings).to(dtype))
    weight = own[0].weight
    prepacked = Prepacked(own, (PIXELS, CONV), release)
    assert isinstance(own[0].weight, PackedWeight) is release and prepacked.names == ["0"]
    for shape in [(2, 24, 12, 9), (1, 24, 30, 31)]:
        given = torch.randn(shape).to(dtype)
        found = own(given)
        prepacked.remove()
        plain = own(given)
        assert found.shape == plain.shape and found.dtype == dtype
        assert found.is_contiguous(memory_format=torch.channels_last)
        step = torch.finfo(dtype).eps * 8
        assert (found - plain).abs().max() <= step * plain.abs().max()
        assert own[0].weight is weight and "forward" not in vars(own[0])
        prepacked = Prepacked(own, (PIXELS, CONV), release)


@pytest.mark.parametrize("settings", [{"kernel_size": 3, "padding": 1}, {"kernel_size": 1}])
@torch.inference_mode()
def test_a_sum_is_part_of_the_product(settings):
    own = nn.Sequential(nn.Conv2d(8, 16, **settings))
    given, add = torch.randn(2, 8, 5, 6), torch.randn(2, 16, 5, 6)
    plain = own(given) + add
    assert followed(own[0], given, After(add=add)) is None
    Prepacked(own, (PIXELS, CONV))
    found = followed(own[0], given, After(add=add))
    assert found is not None and torch.allclose(found, plain, atol=1e-5)


def test_what_it_cannot_do_is_left():
    for settings in ({"padding": "same"}, {"padding": 1, "padding_mode": "circular"}):
        assert not can_prepack_conv(nn.Conv2d(8, 8, 3, **settings))  # pyright: ignore
    assert not can_prepack_conv(nn.Conv2d(8, 8, 3).double())
    for settings in ({"stride": 2}, {"groups": 2}, {"padding": 1}):
        assert not can_prepack_pixels(nn.Conv2d(8, 8, 1, **settings))  # pyright: ignore
    assert can_prepack_pixels(nn.Conv2d(8, 8, 1)) and not can_prepack_conv(nn.Conv2d(8, 8, 1))
    assert not can_prepack_conv(nn.Conv1d(8, 8, 3)) and not can_prepack_conv(nn.Linear(64, 64))


@torch.inference_mode()
def test_an_image_without_a_batch_is_done_plainly():
    own = nn.Sequential(nn.Conv2d(8, 16, 3))
    given = torch.randn(8, 6, 6)
    plain = own(given)
    Prepacked(own, (PIXELS, CONV))
    assert torch.equal(own(given), plain)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_stray_call_leaves_the_weight_packed(settings: dict[str, Any]):
    own: Any = nn.Sequential(nn.Conv2d(24, 16, **settings))
    given = torch.randn(2, 24, 12, 9)
    plain = own(given)
    Prepacked(own, (PIXELS, CONV), release=True)
    found = own(given)
    assert torch.allclose(found, plain, atol=1e-5) and found.requires_grad
    with torch.no_grad():
        assert torch.allclose(own(given[0]), plain[0], atol=1e-5)
    assert own[0].weight.store.packed is not None


def test_strides_come_back_as_they_were():
    for format in (torch.contiguous_format, torch.channels_last):
        own: Any = nn.Sequential(nn.Conv2d(24, 16, 1)).to(memory_format=format)  # pyright: ignore
        strides, weight = own[0].weight.stride(), own[0].weight.detach().clone()
        prepacked = Prepacked(own, (PIXELS, CONV), release=True)
        assert own.state_dict()["0.weight"].stride() == strides
        prepacked.remove()
        assert own[0].weight.stride() == strides and torch.equal(own[0].weight, weight)
