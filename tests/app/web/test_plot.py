"""Points of time saved against likeness."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from mindsd.app.web.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Point, plot


def circles(svg: str) -> list[tuple[float, float]]:
    figure = ElementTree.fromstring(svg)
    return [(float(own.get("cx", "")), float(own.get("cy", ""))) for own in figure.iter("circle")]


def test_no_points_no_plot():
    assert plot([]) == ""


def test_more_time_saved_is_further_right_and_more_alike_is_higher():
    fast, mild = Point("fast", "drawn here", 0.8, 0.95), Point("mild", "tuned", 0.4, 0.99)
    (x_fast, y_fast), (x_mild, y_mild) = circles(plot([fast, mild]))
    assert x_fast > x_mild and y_fast > y_mild  # y grows downwards


@pytest.mark.parametrize("saved", [-3.0, -0.2, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("ssim", [1.0, 0.9999, 0.97, 0.5, -0.1])
def test_every_point_lies_in_the_frame_between_its_lines(saved, ssim):
    drawn = plot([Point("one", "tuned", saved, ssim)])
    [(x, y)] = circles(drawn)
    assert LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM
    assert len(re.findall("<line", drawn)) <= 14


def test_names_are_text():
    drawn = plot([Point("<script>&", "tuned", 0.5, 0.9)])
    assert "<script>" not in drawn and ElementTree.fromstring(drawn) is not None
    assert "saves 50%, SSIM 0.9000" in drawn
