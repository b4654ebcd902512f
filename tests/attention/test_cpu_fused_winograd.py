"""Convolutions with fewer multiplications: as exact as plain ones, for images of every size."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindsd.attention import cpu_fused_winograd
from mindsd.attention.cpu_fused import fuse_cpu
from mindsd.attention.cpu_fused_winograd import (
    PLACES,
    TOLERANCE,
    WINOGRAD,
    _blocked,
    can_prepack_winograd,
    why_not,
    winograd,
)
from mindsd.packed_weight import PackedWeight
from mindsd.prepack import After, Prepacked, followed
from mindsd.prepack_conv import CONV

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def conv(**changed: Any) -> nn.Conv2d:
    settings: dict[str, Any] = {"in_channels": 80, "out_channels": 64, "kernel_size": 3}
    return cast(Any, nn.Conv2d)(**settings | {"padding": 1} | changed)


@pytest.mark.parametrize("shape", [(2, 64, 8, 8), (1, 80, 7, 10), (3, 144, 5, 6), (1, 64, 1, 1)])
@pytest.mark.parametrize("more", [False, True])
def test_errors_are_those_of_plain_sums(shape: tuple[int, ...], more: bool):
    x, weight = drawn(*shape), drawn(96, shape[1], 3, 3) / (9 * shape[1]) ** 0.5
    bias, add = (drawn(96), drawn(shape[0], 96, *shape[2:])) if more else (None, None)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    if bias is not None and add is not None:
        exact += bias.double()[:, None, None] + add.double()
    found = winograd(x, _blocked(weight), bias, add)
    assert found.shape == exact.shape and found.dtype is torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - exact).abs().max() <= TOLERANCE / 4 * exact.abs().max()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tiles", [1, 13, 1000])
def test_parts_of_an_image_are_put_together(monkeypatch, threads: int, tiles: int):
    x, weight = drawn(2, 64, 42, 46), drawn(64, 64, 3, 3)  # 264 tiles
    before = torch.get_num_threads()
    monkeypatch.setattr(cpu_fused_winograd, "ROOM", tiles * 4 * PLACES * 64)
    try:
        torch.set_num_threads(threads)
        found = winograd(x, _blocked(weight))
    finally:
        torch.set_num_threads(before)
    plain = F.conv2d(x, weight, padding=1)
    assert (found - plain).abs().max() <= TOLERANCE * plain.abs().max()


def test_an_image_stays_finite_beside_one_that_is_not():
    x, weight = drawn(2, 64, 6, 6), drawn(64, 64, 3, 3)
    x[1] = torch.nan
    found = winograd(x, _blocked(weight))
    assert torch.equal(found[:1], winograd(x[:1], _blocked(weight))) and found[1].isnan().all()


@pytest.mark.parametrize("release", [False, True])
@torch.inference_mode()
def test_a_layer_is_the_same_but_for_rounding_and_comes_back(release: bool):
    with torch.inference_mode(False):  # a weight made in it stays as it is
        own = nn.Sequential(conv())
        weight: Any = own[0].weight
        numbers = weight.clone()
    x, add = drawn(2, 80, 12, 9), drawn(2, 64, 12, 9)
    plain = own(x)
    with_add = Prepacked(own, (WINOGRAD, CONV), release)
    assert isinstance(own[0].weight, PackedWeight) is release
    with torch.inference_mode(False):
        assert torch.equal(own.state_dict()["0.weight"], numbers)
    found, sum = own(x), followed(own[0], x, After(add=add))
    assert sum is not None
    for one, other in ((found, plain), (sum, plain + add)):
        assert (one - other).abs().max() <= TOLERANCE * other.abs().max()
    with pytest.raises(ValueError, match="'gelu' cannot follow"):
        followed(own[0], x, After("gelu"))
    with_add.remove()
    assert own[0].weight is weight and torch.equal(weight, numbers)
    assert weight.is_contiguous() and torch.equal(own(x), plain)


@torch.inference_mode()
def test_a_model_made_fast_has_them():
    with torch.inference_mode(False):
        own = nn.Sequential(conv(), conv(in_channels=64, stride=2))
    x = drawn(1, 80, 9, 8)
    plain = own(x)
    with fuse_cpu(own) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert fused.prepacked.names == ["0", "1"]
        packed = [own[0].weight.store.packed, own[1].weight.store.packed]  # pyright: ignore
        assert [part.is_mkldnn for part in packed] == [False, True]
        assert torch.allclose(own(x), plain, atol=1e-5)


def test_what_it_cannot_do_is_left(monkeypatch: pytest.MonkeyPatch):
    assert can_prepack_winograd(conv())
    for changed in (
        *({"stride": 2}, {"padding": 0}, {"dilation": 2}, {"kernel_size": 1}, {"groups": 2}),
        *({"in_channels": 40}, {"in_channels": 72}, {"out_channels": 80}, {"padding": "same"}),
        {"padding_mode": "circular"},
    ):
        assert not can_prepack_winograd(conv(**changed))
    assert not can_prepack_winograd(conv().bfloat16())
    monkeypatch.setattr(cpu_fused_winograd, "why_not", lambda: "there is no C compiler here")
    assert not can_prepack_winograd(conv())


def test_shapes_that_do_not_fit_are_refused_by_torch():
    weight = _blocked(drawn(64, 80, 3, 3))
    with pytest.raises(RuntimeError, match="to have 80 channels"):
        winograd(drawn(1, 64, 8, 8), weight)
    with pytest.raises(RuntimeError):
        winograd(drawn(1, 80, 8, 8), weight, drawn(32))
    with pytest.raises(RuntimeError):
        winograd(drawn(1, 80, 8, 8), weight, drawn(64), drawn(1, 64, 8, 5))


def test_kernels_that_are_off_are_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINDSD_NATIVE", "off")
    why_not.cache_clear()
    try:
        assert "off" in str(why_not()) and not can_prepack_winograd(conv())
    finally:
        monkeypatch.undo()
        why_not.cache_clear()


def test_what_is_made_while_another_model_loads():
    """Loading one in half precision changes torch's default dtype in all threads."""
    x, weight = drawn(1, 64, 40, 40), drawn(64, 64, 3, 3)
    plain = winograd(x, _blocked(weight))
    before = torch.get_default_dtype()
    why_not.cache_clear()
    try:
        torch.set_default_dtype(torch.bfloat16)
        assert why_not() is None and torch.equal(winograd(x, _blocked(weight)), plain)
    finally:
        torch.set_default_dtype(before)


def test_no_images_at_all():
    assert winograd(drawn(0, 64, 8, 8), _blocked(drawn(96, 64, 3, 3))).shape == (0, 96, 8, 8)
