"""Time on a device that runs behind, and a budget of it; what is measured is said at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch


class Clock:
    """Seconds of a device's work, within a budget.

    Args:
        device: "cuda" or "cpu".
        budget: seconds after which nothing new is begun.
    """

    def __init__(self, device: str, budget: float):
        self.device = device
        self._end = time.perf_counter() + budget
        self._began = time.perf_counter()

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._end

    def timed(self, function: Callable[[], object]) -> float:
        """Seconds until the device is done with what a function asks of it."""
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def say(self, text: str) -> None:
        """A line with the seconds since the beginning."""
        print(f"[{time.perf_counter() - self._began:6.1f}] {text}", flush=True)


def spread(seconds: Sequence[float], unit: float = 1.0) -> str:
    """The median and the ends."""
    low, middle, high = (
        own / unit for own in (min(seconds), statistics.median(seconds), max(seconds))
    )
    return f"{middle:.4g} ({low:.4g}-{high:.4g})"


def ratio(plain: Sequence[float], own: Sequence[float]) -> float:
    """How many times as fast, by medians."""
    return statistics.median(plain) / statistics.median(own)
