"""Bounds are read, and judge by the mean."""

import pytest

from mindsd.errors import RequestError
from mindsd.pipelines.bound import Bound


def test_texts_are_read_and_written():
    bound = Bound.parse(" ssim >= 0.95, right>=-0.01,psnr>=35")
    assert str(bound) == "ssim>=0.95,right>=-0.01,psnr>=35"
    assert Bound.parse(str(bound)) == bound and bound.metrics == ["ssim", "right", "psnr"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not understood at ''"),
        ("ssim", "is not understood at 'ssim'"),
        ("ssim>0.9", "is not understood at 'ssim>0.9'"),
        ("ssim<=0.9", "is not understood"),
        ("lpips>=0.9", "is not understood at 'lpips>=0.9'"),
        ("ssim>=0.9,", "is not understood at ''"),
        ("ssim>=much", "'much' in the bound 'ssim>=much' is no number"),
        ("ssim>=nan", "a bound on ssim lies from -1 to 1, got nan"),
        ("ssim>=95", "a bound on ssim lies from -1 to 1, got 95"),
        ("psnr>=inf", "a bound on psnr lies from 0 to 100, got inf"),
        ("right>=-2", "a bound on right lies from -1 to 1"),
        ("ssim>=0.9,ssim>=0.8", "names ssim twice"),
    ],
)
def test_nonsense_is_refused(text, words):
    with pytest.raises(RequestError, match=".*") as told:
        Bound.parse(text)
    assert words in str(told.value) and "\n" not in str(told.value)


def test_the_mean_is_judged():
    bound = Bound.parse("ssim>=0.9,psnr>=30")
    assert bound.missed({"ssim": [0.8, 1.0], "psnr": [30, 30]}) is None
    assert bound.missed({"ssim": [0.8, 0.9], "psnr": [30, 30]}) == "ssim 0.85"
    assert bound.missed({"ssim": [0.9], "psnr": [29.5]}) == "psnr 29.5"


def test_a_clear_miss_is_beyond_doubt():
    bound = Bound.parse("ssim>=0.9")
    assert bound.missed({"ssim": [0.7, 1.0, 0.7, 1.0]}, clearly=True) is None
    assert bound.missed({"ssim": [0.7, 1.0, 0.7, 1.0]}) == "ssim 0.85"
    assert bound.missed({"ssim": [0.84, 0.85, 0.86, 0.85]}, clearly=True) == "ssim 0.85"


def test_one_image_lost_of_two_hundred_is_half_a_point():
    bound = Bound.parse("right>=-0.01")
    assert bound.missed({"right": [0.0] * 199 + [-1.0]}) is None
    assert bound.missed({"right": [0.0] * 49 + [-1.0]}) == "right -0.02"
    assert bound.missed({"right": [0.0] * 48 + [1.0, -1.0]}) is None
