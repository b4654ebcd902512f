"""What a search may turn: fields of `Acceleration`, each with its values from mild to bold.

A field may have several knobs, where its values are of several kinds that have no common order. To
let the search try something new, add its text here; what a model cannot do is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mindsd.config import PLAIN, Acceleration
from mindsd.stepcache.plan import StepCache

BOLDER = 1.15  # times fewer steps that the next plan computes, at least


@dataclass(frozen=True)
class Knob:
    """One field and the texts or numbers that `Acceleration.from_json` reads for it."""

    field: str
    values: tuple[str | float, ...]

    def turned(self, acceleration: Acceleration, value: str | float) -> Acceleration:
        """The acceleration with this value in the knob's field.

        Raises:
            RequestError: the value does not go with the others.
        """
        return Acceleration.from_json({**acceleration.as_json(), self.field: value})

    def bolder(self, acceleration: Acceleration) -> tuple[str | float, ...]:
        """The values beyond the present one; all of them where it is none of them."""
        told = acceleration.as_json().get(self.field)
        known = [self.turned(PLAIN, value).as_json().get(self.field) for value in self.values]
        return self.values[known.index(told) + 1 :] if told in known else self.values


KNOBS = (
    Knob("step_cache", ("skip:2", "skip:3", "skip:4")),
    Knob("step_cache", ("tolerance:0.005", "tolerance:0.01", "tolerance:0.02", "tolerance:0.04")),
    Knob("step_cache", ("interval:2", "interval:3", "interval:4", "interval:6")),
    Knob("step_cache", ("adaptive:0.05", "adaptive:0.1", "adaptive:0.2", "adaptive:0.4")),
    Knob("guidance_until", (0.9, 0.8, 0.6, 0.4)),
    Knob("token_merge", ("0.25", "0.5")),
    Knob("token_merge", ("downsample",)),
)


def calibrated(plans: Mapping[int, StepCache]) -> tuple[Knob, ...]:
    """All knobs, the first of them turning through a model's own best plans.

    Args:
        plans: by how many steps they compute; left out are those so little bolder than plain, or
            than the last, that what they save would be noise.
    """
    values: list[str | float] = []
    last = max(plans)
    for count in sorted(plans, reverse=True):
        if count <= last / BOLDER:
            values.append(str(plans[count]))
            last = count
    return (Knob("step_cache", tuple(values)), *KNOBS)
