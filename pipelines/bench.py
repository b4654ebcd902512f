"""The ways that `mindsd bench` lays side by side: speeds, each method alone, and fewer steps."""

from __future__ import annotations

from collections.abc import Sequence

from mindsd.config import PLAIN, SPEEDS
from mindsd.pipelines.knobs import KNOBS
from mindsd.pipelines.way import Way
from mindsd.stepcache.plan import Kind


def ways(steps: int, *, flow: bool = False) -> list[Way]:
    """Plain first; of each knob the middle value; at last as few steps as each speed computes.

    Args:
        steps: that a plain image takes.
        flow: whether the model is a rectified flow.
    """
    singles = [knob.turned(PLAIN, knob.values[len(knob.values) // 2]) for knob in KNOBS]
    caches = (own.settled(flow=flow).step_cache for own in SPEEDS.values())
    kinds = (cache.fixed(steps) or [] for cache in caches if cache is not None)
    fewer = [Way(steps=computed.count(Kind.WHOLE)) for computed in kinds]
    every = [Way(), *map(Way, SPEEDS.values()), *map(Way, singles), *fewer]
    return list(dict.fromkeys(way for way in every if way.steps != steps))  # lossless is plain


def computes_all(ways: Sequence[Way], steps: int, *, flow: bool = False) -> list[Way]:
    """Of these, the ones whose step cache is known to leave out no step of so many."""
    found = []
    for way in ways:
        cache = way.acceleration.settled(flow=flow).step_cache
        if cache is not None and cache.fixed(steps) == [Kind.WHOLE] * steps:
            found.append(way)
    return found
