"""The ways that `mindsd bench` lays side by side: speeds, each method alone, and fewer steps."""

from __future__ import annotations

from mindsd.config import PLAIN, SPEEDS
from mindsd.pipelines.knobs import KNOBS
from mindsd.pipelines.way import Way

FEWER = (2 / 3, 1 / 2, 1 / 3)  # of the steps


def ways(steps: int) -> list[Way]:
    """Plain first; of each knob the middle value; fewer steps last.

    Args:
        steps: that a plain image takes.
    """
    singles = [knob.turned(PLAIN, knob.values[len(knob.values) // 2]) for knob in KNOBS]
    fewer = [Way(steps=max(1, round(steps * part))) for part in FEWER]
    every = [Way(), *map(Way, SPEEDS.values()), *map(Way, singles), *fewer]
    return list(dict.fromkeys(every))  # lossless is plain
