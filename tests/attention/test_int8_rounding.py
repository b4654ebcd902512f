"""Rounding to 8 bits: what C and torch give is the same, and what was rounded is found again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mindsd import native
from mindsd.attention import int8_rounding
from mindsd.attention.int8_rounding import (
    DTYPES,
    LEVELS,
    ZERO,
    round_images,
    round_rows,
    scale_rows,
    why_absent,
)

needs_compiler = pytest.mark.skipif(why_absent() is not None, reason=str(why_absent()))
NONE, ENDLESS = float("nan"), float("inf")
LAST = torch.channels_last


@pytest.fixture(params=["C", "torch"])
def by(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs by C, where there is a compiler, and by torch."""
    if request.param == "torch":
        monkeypatch.setattr(int8_rounding, "load", lambda source: "there is none")
    elif (reason := why_absent()) is not None:
        pytest.skip(reason)
    return request.param


def drawn(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 15, 64, 77])
def test_rows_lie_within_half_a_level(by: str, dtype: torch.dtype, width: int):
    x = drawn(9, width, dtype=dtype) * torch.logspace(-20, 4, 9)[:, None].to(dtype)
    levels, scale = round_rows(x)
    assert levels.dtype is torch.uint8 and int(levels.min()) >= ZERO - LEVELS
    back = (levels.float() - ZERO) * scale[:, None]
    assert (back - x.float()).abs().le(scale[:, None] * 0.501).all()
    greatest = x.float().abs().amax(1)
    assert torch.allclose(scale * LEVELS, greatest) and (levels != ZERO).any(1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_without_a_number_stay_so_and_empty_ones_are_zero(by: str, dtype: torch.dtype):
    x = drawn(5, 33, dtype=dtype)
    x[0], x[1, 32], x[2, 5], x[3, 0] = 0, NONE, ENDLESS, -ENDLESS
    levels, scale = round_rows(x)
    assert scale.isnan().tolist() == [False, True, True, True, False]
    assert (levels[0] == ZERO).all() and scale[0] == 0
    found = scale_rows(torch.ones(5, 33, dtype=dtype), scale, None)
    assert found.isnan().all(1).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("biased", [True, False])
def test_products_get_their_scale_and_bias(by: str, dtype: torch.dtype, biased: bool):
    y, scale = drawn(6, 35, dtype=dtype), drawn(6, dtype=torch.float32)
    bias = drawn(35, dtype=torch.float32) if biased else None
    expected = y.float() * scale[:, None] + (0 if bias is None else bias)
    found = scale_rows(y, scale, bias)
    assert found is y and torch.allclose(y.float(), expected.to(dtype).float(), rtol=1e-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_images_lie_within_a_level_and_zero_is_met(by: str, dtype: torch.dtype, threads: int):
    x = drawn(4, 35, 5, 3, dtype=dtype).contiguous(memory_format=LAST)
    x[1].abs_()
    x[2], x[3] = -1 - x[2].abs(), 0
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        levels, scales, zeros = round_images(x)
    finally:
        torch.set_num_threads(before)
    assert levels.dtype is torch.uint8 and levels.is_contiguous(memory_format=LAST)
    assert zeros[1:] == [0, 255, 0]
    for own, found, scale, zero in zip(x.float(), levels, scales, zeros, strict=True):
        apart = (found.float() - zero) * scale - own
        assert apart.abs().max() <= scale and (found[own == 0] == zero).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_without_a_number_leaves_the_others_theirs(by: str, dtype: torch.dtype):
    x = drawn(3, 16, 4, 4, dtype=dtype).contiguous(memory_format=LAST)
    alone = round_images(x[:1])
    x[1, 3, 2, 1], x[2, 0, 0, 0] = NONE, -ENDLESS
    levels, scales, zeros = round_images(x)
    assert torch.equal(levels[0], alone[0][0]) and scales[0] == alone[1][0]
    assert zeros[0] == alone[2][0] and str(scales[1:]) == "[nan, nan]"


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_c_and_torch_agree(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    rows, images = drawn(40, 321, dtype=dtype), drawn(2, 40, 9, 7, dtype=dtype)
    images = images.contiguous(memory_format=LAST)
    ours = round_rows(rows), round_images(images)
    monkeypatch.setenv(native.OFF, "off")
    monkeypatch.setattr(int8_rounding, "load", lambda source: native.why_not(source))
    theirs = round_rows(rows), round_images(images)
    for one, other in zip(ours, theirs, strict=True):
        # a number in the middle between two levels may go to either side
        assert int((one[0].int() - other[0].int()).abs().max()) <= 1
        assert float((one[0] != other[0]).float().mean()) < 0.02
    assert torch.allclose(ours[0][1], theirs[0][1]) and ours[1][2] == theirs[1][2]
