"""Forecasts are exact on what they assume, at irregular spacing."""

import pytest
import torch

from mindsd.stepcache.forecast import Anchor

LEVELS = [1.0, 0.93, 0.9, 0.55, 0.5, 0.11]


def along(curve, levels):
    anchor = Anchor(curve(levels[0]), levels[0])
    for level in levels[1:]:
        anchor = anchor.next(curve(level), level)
    return anchor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_line_is_continued_exactly(dtype):
    def line(level):
        return torch.tensor([1.0, -2.0]).mul(level).add(3.0).to(dtype)

    for end in range(2, len(LEVELS)):
        anchor = along(line, LEVELS[:end])
        near = anchor.at + (LEVELS[end] - anchor.at) * min(1.0, 3 * anchor.gap)
        tolerance = 1e-5 if dtype is torch.float32 else 0.1
        assert torch.allclose(anchor.forecast(near), line(near), atol=tolerance)


def test_a_constant_stays_bit_for_bit():
    anchor = along(lambda level: torch.tensor([0.1, 0.7]), LEVELS)
    assert torch.equal(anchor.forecast(0.0), torch.tensor([0.1, 0.7]))


def test_one_value_is_held():
    assert torch.equal(Anchor(torch.ones(2), 1.0).forecast(0.3), torch.ones(2))


def test_a_slope_is_trusted_for_three_gaps_only():
    anchor = along(lambda level: torch.tensor([level]), [1.0, 0.9])
    assert anchor.forecast(0.0).item() == pytest.approx(0.6)


def test_the_same_level_twice_keeps_the_slope():
    anchor = along(lambda level: torch.tensor([level]), [1.0, 0.9, 0.9])
    assert anchor.forecast(0.8).item() == pytest.approx(0.8)
