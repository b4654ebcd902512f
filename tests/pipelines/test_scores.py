"""Spreads, shares and speed-ups of known numbers."""

import pytest

from mindsd.pipelines.scores import Scores, Spread, Timing, share


def test_a_spread():
    spread = Spread.of([float(n) for n in range(11)])
    assert (spread.mean, spread.median, spread.p10) == (5, 5, 1)
    assert Spread.of([3.0]) == Spread(3, 3, 3)
    assert Spread.of([2.0, 1.0]).p10 == pytest.approx(1.1)


def test_right_is_the_change_against_plain():
    scores = Scores((40.0,) * 3, (0.9,) * 3, (True, False, True), (True, True, False))
    assert scores.values["right"] == (0, -1, 1) and len(scores) == 3
    assert share(scores.right) == pytest.approx(2 / 3)


def test_what_nobody_can_read_has_no_right():
    assert set(Scores((40.0,), (0.9,)).values) == {"psnr", "ssim"} and share(None) is None


def test_speedups_are_taken_within_rounds():
    """A machine that gets slower slows both of a round."""
    timing = Timing((1.0, 2.0, 5.0), (2.0, 4.0, 5.0))
    assert timing.speedups == (1, 2, 2) and timing.speedup == 2 and timing.median == 2
