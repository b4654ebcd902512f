"""How images with less work compare with the plain ones: a value for each image, and their spread.

Plain numbers only: faces read them without loading torch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

EQUAL = 100.0  # dB that an image without any difference counts as, so that means stay finite


@dataclass(frozen=True)
class Spread:
    """Mean, median and 10th percentile (nine of ten images are at least as good)."""

    mean: float
    median: float
    p10: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        place = 0.1 * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        p10 = ordered[below] + (place - below) * (ordered[above] - ordered[below])
        return cls(statistics.fmean(ordered), statistics.median(ordered), p10)


@dataclass(frozen=True)
class Scores:
    """One value for each image.

    Attributes:
        psnr: dB, at most 100.
        ssim: at most 1.
        right: whether everything that the prompt says was found; None where nobody can tell.
        plain_right: the same of the plain images.
    """

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    right: tuple[bool, ...] | None = None
    plain_right: tuple[bool, ...] | None = None

    @property
    def values(self) -> dict[str, tuple[float, ...]]:
        """What a bound judges, by metric."""
        found: dict[str, tuple[float, ...]] = {"psnr": self.psnr, "ssim": self.ssim}
        if self.right is not None and self.plain_right is not None:
            pairs = zip(self.right, self.plain_right, strict=True)
            found["right"] = tuple(float(own) - float(plain) for own, plain in pairs)
        return found

    def first(self, number: int) -> Scores:
        """Of the first so many images."""
        right, plain = self.right, self.plain_right
        return Scores(
            self.psnr[:number],
            self.ssim[:number],
            None if right is None else right[:number],
            None if plain is None else plain[:number],
        )

    def __len__(self) -> int:
        return len(self.psnr)


def share(right: Sequence[bool] | None) -> float | None:
    """Of the images, those that are right."""
    return None if right is None else statistics.fmean(right)


@dataclass(frozen=True)
class Timing:
    """Seconds for one image, round by round; each round also drew plainly.

    Attributes:
        seconds, plain: one of each for every round.
    """

    seconds: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def speedups(self) -> tuple[float, float, float]:
        """Least, median and most of the rounds: how many times faster than plain."""
        ratios = [plain / own for own, plain in zip(self.seconds, self.plain, strict=True)]
        return min(ratios), statistics.median(ratios), max(ratios)

    @property
    def speedup(self) -> float:
        return self.speedups[1]
