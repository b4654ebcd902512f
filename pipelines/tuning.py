"""Search, then proof: what held the bound is measured again on images the search never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mindsd.pipelines.bound import Bound
from mindsd.pipelines.knobs import Knob
from mindsd.pipelines.scores import Timing
from mindsd.pipelines.search import LEAST_GAIN, Search, Tried, Verdict
from mindsd.pipelines.way import Way
from mindsd.pipelines.yardstick import Yardstick

PLAIN_WAY = Way()


def tune(
    search: Yardstick,
    unseen: Yardstick,
    bound: Bound,
    steps: int,
    *,
    knobs: Sequence[Knob],
    told: Callable[[Tried], None] = lambda tried: None,
) -> Tried | None:
    """The fastest acceleration that holds a bound on unseen images; None when nothing does.

    Args:
        search: measures on the images to search with.
        unseen: measures on others.
        steps: that a plain image takes.
        knobs: what may be turned.
        told: is told everything that was tried: in the search, then on the unseen images, there
            with plain drawing and with fewer steps in about the found one's time beside it.
    """
    for tried in Search(search, bound, knobs, told).run():
        proved = _prove(unseen, bound, tried.way)
        told(proved)
        if proved.verdict is Verdict.HOLDS:
            told(_plain(unseen, proved))
            told(_rival(unseen, bound, proved, steps))
            return proved
    return None


def _prove(unseen: Yardstick, bound: Bound, way: Way) -> Tried:
    scores = unseen.scores(way, unseen.number)
    missed = bound.missed(scores.values)
    if missed:
        return Tried(way, Verdict.MISSED, scores, reason=missed, unseen=True)
    timing = unseen.timing(way)
    verdict = Verdict.HOLDS if timing.speedup >= LEAST_GAIN else Verdict.SLOWER
    return Tried(way, verdict, scores, timing, unseen=True)


def _plain(unseen: Yardstick, found: Tried) -> Tried:
    """What the found one was compared with."""
    assert found.timing is not None
    timing = Timing(found.timing.plain, found.timing.plain)
    scores = unseen.scores(PLAIN_WAY, unseen.number)
    return Tried(PLAIN_WAY, Verdict.HOLDS, scores, timing, unseen=True)


def _rival(unseen: Yardstick, bound: Bound, found: Tried, steps: int) -> Tried:
    """Steps cost alike, so that so many fewer take about as long."""
    way = Way(steps=max(1, min(steps - 1, round(steps / found.speedup))))
    scores = unseen.scores(way, unseen.number)
    missed = bound.missed(scores.values)
    verdict = Verdict.MISSED if missed else Verdict.HOLDS
    return Tried(way, verdict, scores, unseen.timing(way), missed or "", unseen=True)
