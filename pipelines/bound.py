"""What an acceleration may cost: "ssim>=0.95", "psnr>=35", "right>=-0.01", several with commas.

The mean over the images must reach each bound. "right" is the change of the share of images in
which everything that the prompt says is found, against the plain ones: -0.01 is one point lost.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mindsd.errors import RequestError

# Metric -> the lowest and highest bound that makes sense.
METRICS = {"ssim": (-1.0, 1.0), "psnr": (0.0, 100.0), "right": (-1.0, 1.0)}
DOUBT = 2.0  # standard errors of the mean: so far below a bound is clearly below it
EXAMPLE = "ssim>=0.95, psnr>=35 or right>=-0.01; several with commas"


@dataclass(frozen=True)
class Limit:
    """The mean of one metric is at least so much."""

    metric: str
    least: float

    def __str__(self) -> str:
        return f"{self.metric}>={self.least:g}"


@dataclass(frozen=True)
class Bound:
    """All limits hold."""

    limits: tuple[Limit, ...]

    @classmethod
    def parse(cls, text: str) -> Bound:
        """From "ssim>=0.95,psnr>=35".

        Raises:
            RequestError: it is not of that form, or names a metric twice.
        """
        limits = tuple(_limit(part, text) for part in text.split(","))
        metrics = [limit.metric for limit in limits]
        if twice := sorted({metric for metric in metrics if metrics.count(metric) > 1}):
            raise RequestError(f"the bound {text!r} names {twice[0]} twice; say it once")
        return cls(limits)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return ",".join(str(limit) for limit in self.limits)

    @property
    def metrics(self) -> list[str]:
        return [limit.metric for limit in self.limits]

    def missed(self, values: Mapping[str, Sequence[float]], *, clearly: bool = False) -> str | None:
        """Why these images miss the bound, as in "ssim 0.912"; None when it holds.

        Args:
            values: of each metric, one value for each image.
            clearly: in doubt it holds: more images may still bring the mean up to the bound.
        """
        for limit in self.limits:
            own = values[limit.metric]
            mean = statistics.fmean(own)
            doubt = DOUBT * statistics.stdev(own) / math.sqrt(len(own)) if len(own) > 1 else 0.0
            if mean + (doubt if clearly else 0.0) < limit.least:
                return f"{limit.metric} {mean:.4g}"
        return None


def _limit(part: str, text: str) -> Limit:
    metric, sign, number = (word.strip() for word in part.partition(">="))
    if not sign or metric not in METRICS:
        raise RequestError(
            f"the bound {text!r} is not understood at {part.strip()!r}; say {EXAMPLE}"
        )
    try:
        least = float(number)
    except ValueError:
        raise RequestError(
            f"{number!r} in the bound {text!r} is no number; say {EXAMPLE}"
        ) from None
    low, high = METRICS[metric]
    if not low <= least <= high:  # nor is NaN
        raise RequestError(f"a bound on {metric} lies from {low:g} to {high:g}, got {number}")
    return Limit(metric, least)
