"""The yardsticks give the known answers on known pairs."""

import math

import numpy as np
import pytest
from PIL import Image

from mindsd.errors import RequestError
from mindsd.quality import psnr, ssim

RAMP = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 64, 3))


def image(array):
    return Image.fromarray(array.astype(np.uint8))


def test_equal_images():
    assert psnr(image(RAMP), image(RAMP)) == math.inf
    assert ssim(image(RAMP), image(RAMP)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("levels", [1, 15, 16, 50])
def test_a_constant_difference_has_a_known_psnr(levels):
    """Squared in 8 bits, 16 levels would count as none."""
    expected = 20 * math.log10(255 / levels)
    assert psnr(image(RAMP + levels), image(RAMP)) == pytest.approx(expected, abs=1e-9)


def test_black_against_white():
    black, white = np.zeros((32, 32, 3)), np.ones((32, 32, 3))
    assert psnr(black, white) == 0
    assert ssim(black, white) == pytest.approx(1e-4 / (1 + 1e-4))


def test_a_constant_shift_costs_light_only():
    """For flat images SSIM is its luminance term: (2 a b + c) / (a^2 + b^2 + c)."""
    a, b = np.full((32, 32, 3), 0.5), np.full((32, 32, 3), 0.6)
    assert ssim(a, b) == pytest.approx((2 * 0.3 + 1e-4) / (0.25 + 0.36 + 1e-4))


def test_an_inverted_structure_is_below_none():
    checks = np.indices((32, 32)).sum(0) % 2 * np.ones((3, 1, 1))
    checks = checks.transpose(1, 2, 0)
    assert ssim(checks, 1 - checks) < -0.9


def test_more_noise_is_worse():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=RAMP.shape)
    marks = [
        (psnr(RAMP / 255 + s * noise, RAMP / 255), ssim(RAMP / 255 + s * noise, RAMP / 255))
        for s in (0.01, 0.05, 0.2)
    ]
    assert marks == sorted(marks, reverse=True) and len(set(marks)) == 3
    assert marks[0][0] == pytest.approx(40, abs=0.2)


def test_bytes_are_read_as_bytes():
    other = np.flip(RAMP, axis=0).copy()
    assert psnr(RAMP, other) == psnr(image(RAMP), image(other))
    assert ssim(RAMP, other) == ssim(RAMP / 255, image(other))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_of_two_sizes_are_refused(metric):
    """Numbers that fit by broadcasting would be a mark of nothing."""
    with pytest.raises(RequestError, match="of one size"):
        metric(RAMP, RAMP[:1, :1])


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(RequestError, match="at least 11"):
        ssim(RAMP[:8], RAMP[:8])
