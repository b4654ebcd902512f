"""Points of time saved against likeness, as SVG that follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 16, 46  # of the frame
KINDS = ("drawn here", "tuned")


@dataclass(frozen=True)
class Point:
    """A way to draw.

    Attributes:
        name: what it is called.
        kind: one of `KINDS`.
        saved: share of plain drawing's time that it does not take; below 0 for more time.
        ssim: to plain drawing.
    """

    name: str
    kind: str
    saved: float
    ssim: float


def plot(points: Sequence[Point]) -> str:
    """Empty for no points."""
    if not points:
        return ""
    low_x = min(0.0, math.floor(10 * min(own.saved for own in points)) / 10)
    step = _step(1 - min(own.ssim for own in points))
    low_y = 1 - step * math.ceil((1 - min(own.ssim for own in points)) / step + 0.25)
    frame = _Frame(low_x, low_y)
    lines = "".join(frame.column(low_x + i * (1 - low_x) / 5) for i in range(6))
    lines += "".join(frame.row(1 - i * step) for i in range(round((1 - low_y) / step) + 1))
    dots = "".join(frame.dot(own) for own in points)
    said = "; ".join(_said(own) for own in points)
    return (
        f'<figure class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Time saved against likeness: {escape(said)}">{lines}{_titles()}{dots}</svg>'
        f"<figcaption>{''.join(_key(kind) for kind in KINDS)}</figcaption></figure>"
    )


class _Frame:
    """From shares to places in the picture; the right end is all time saved, the top is equal."""

    def __init__(self, low_x: float, low_y: float) -> None:
        self._low_x, self._low_y = low_x, low_y

    def x(self, saved: float) -> float:
        share = (saved - self._low_x) / (1 - self._low_x)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, ssim: float) -> float:
        share = (1 - ssim) / (1 - self._low_y)
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)

    def column(self, saved: float) -> str:
        x, base = self.x(saved), HEIGHT - BOTTOM
        label = f'<text x="{x}" y="{base + 17}" text-anchor="middle">{saved:.0%}</text>'
        return f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{base}"/>{label}'

    def row(self, ssim: float) -> str:
        y = self.y(ssim)
        label = f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{ssim:.4g}</text>'
        return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>{label}'

    def dot(self, own: Point) -> str:
        x, y = self.x(own.saved), self.y(own.ssim)
        side, shift = ("end", -9) if own.saved > 0.75 else ("start", 9)
        label = f'<text x="{x + shift}" y="{y + 4}" text-anchor="{side}">{escape(own.name)}</text>'
        return (
            f'<g class="k{KINDS.index(own.kind)}"><title>{escape(_said(own))}</title>'
            f'<circle cx="{x}" cy="{y}" r="5"/>{label}</g>'
        )


def _step(most: float) -> float:
    """Between two lines of likeness: a round number, of which a few make the whole."""
    return next(one for one in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5) if 4 * one >= most)


def _said(own: Point) -> str:
    return f"{own.name} ({own.kind}): saves {own.saved:.0%}, SSIM {own.ssim:.4f}"


def _key(kind: str) -> str:
    return f'<span class="k{KINDS.index(kind)}">{kind}</span>'


def _titles() -> str:
    middle, turned = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">time saved</text>'
        f'<text transform="translate(14 {turned}) rotate(-90)" text-anchor="middle">'
        "likeness (SSIM)</text>"
    )
