"""A value along a trajectory, and where it goes: first order over the log-SNR, in float32.

Index differences are wrong wherever steps are not evenly spaced (Karras schedules, shifted flows,
the tail of image-to-image), so the slope is taken over log(alpha / sigma) itself:

    value(s) ~ value(s1) + (value(s1) - value(s0)) / (s1 - s0) * (s - s1)

Its error is the second divided difference times (s - s1) * (s - s0): one forecast that can be held
against the true value tells how far off the next ones will be.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

REACH = 3.0  # gaps between computed values that a slope is trusted for; beyond it the value is held


@dataclass
class Anchor:
    """The last computed value of one row and its slope.

    Attributes:
        value: as it was computed, any shape and floating dtype.
        at: the log-SNR where it was computed.
        slope: change per unit of log-SNR, float32; None after the first value.
        gap: distance between the last two computed values.
    """

    value: Tensor
    at: float
    slope: Tensor | None = None
    gap: float = 0.0

    def next(self, value: Tensor, at: float) -> Anchor:
        """The anchor after another computed value."""
        gap = at - self.at
        if gap == 0 or value.shape != self.value.shape:
            return Anchor(value, at, self.slope if gap == 0 else None, self.gap)
        return Anchor(value, at, (value.float() - self.value.float()) / gap, abs(gap))

    def forecast(self, at: float) -> Tensor:
        """The value expected at a log-SNR, in the value's dtype; without a slope the last."""
        if self.slope is None:
            return self.value
        reach = REACH * self.gap
        distance = max(-reach, min(reach, at - self.at))
        return (self.value.float() + self.slope * distance).to(self.value.dtype)

    def spread(self, at: float) -> float:
        """What the second divided difference is multiplied with in the error of a forecast."""
        distance = abs(at - self.at)
        return distance * (distance + self.gap)
