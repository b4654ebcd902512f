"""The fastest acceleration within a bound: knob after knob, mild to bold, until nothing improves.

A coordinate search. From the best so far each knob is turned further while the bound holds; its
first miss ends it, for bolder values draw less alike still. A bold value is judged on few images
first and on more only while the bound may hold. What is kept is faster than what it replaces by
more than the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from mindsd.config import PLAIN, Acceleration
from mindsd.errors import OutOfMemory, RequestError
from mindsd.pipelines.bound import Bound
from mindsd.pipelines.knobs import Knob
from mindsd.pipelines.scores import Scores, Timing
from mindsd.pipelines.way import Way
from mindsd.pipelines.yardstick import Yardstick

FEWEST = 4  # images that a way is first judged on
LEAST_GAIN = 1.02  # times as fast as the best so far: less is noise


class Verdict(Enum):
    HOLDS = "holds"
    SLOWER = "not faster"
    MISSED = "misses the bound"
    REFUSED = "cannot be done"


@dataclass(frozen=True)
class Tried:
    """One way that was tried and what came of it.

    Attributes:
        scores: of so many images as were looked at; None when it was refused.
        timing: None when it was not worth taking the time.
        reason: the number that missed the bound, or the refusal.
        unseen: whether it was measured on images that the search did not see.
    """

    way: Way
    verdict: Verdict
    scores: Scores | None = None
    timing: Timing | None = None
    reason: str = ""
    unseen: bool = False

    @property
    def speedup(self) -> float:
        """To plain; 0 where no time was taken."""
        return self.timing.speedup if self.timing else 0.0


class Search:
    """One search; `run` it once.

    Args:
        measure: answers what a way costs and saves.
        bound: what it may cost.
        knobs: what may be turned, in order.
        told: is told everything that was tried.
    """

    def __init__(
        self,
        measure: Yardstick,
        bound: Bound,
        knobs: Sequence[Knob],
        told: Callable[[Tried], None] = lambda tried: None,
    ):
        self._measure = measure
        self._bound = bound
        self._knobs = knobs
        self._told = told
        self._best = PLAIN
        self._best_speedup = 1.0
        self._tried: dict[Way, Tried] = {}

    def run(self) -> list[Tried]:
        """All that held the bound and was faster than plain, the fastest first."""
        before = None
        while before != self._best:
            before = self._best
            for knob in self._knobs:
                self._turn(knob)
        held = [tried for tried in self._tried.values() if tried.verdict is Verdict.HOLDS]
        return sorted(held, key=lambda tried: -tried.speedup)

    def _turn(self, knob: Knob) -> None:
        """Mild to bold from the best so far, up to the first miss."""
        start = self._best
        for value in knob.bolder(start):
            tried = self._try(knob, start, value)
            if tried.verdict is Verdict.MISSED:
                return
            if tried.verdict is Verdict.HOLDS and tried.speedup > self._best_speedup:
                self._best, self._best_speedup = tried.way.acceleration, tried.speedup

    def _try(self, knob: Knob, start: Acceleration, value: str | float) -> Tried:
        try:
            way = Way(knob.turned(start, value))
        except RequestError as error:  # it does not go with the rest of the best so far
            reason = f"{knob.field} {value} beside it: {error}"
            self._told(refused := Tried(Way(start), Verdict.REFUSED, reason=reason))
            return refused
        if way not in self._tried:
            self._tried[way] = self._judge(way)
            self._told(self._tried[way])
        return self._tried[way]

    def _judge(self, way: Way) -> Tried:
        """The way's verdict; some models refuse only when they run."""
        if (reason := self._measure.refuses(way)) is not None:
            return Tried(way, Verdict.REFUSED, reason=reason)
        try:
            return self._look(way)
        except (RequestError, OutOfMemory) as error:
            return Tried(way, Verdict.REFUSED, reason=str(error))

    def _look(self, way: Way) -> Tried:
        """A first look, then the time, then all the images: what costs least first."""
        numbers = _numbers(self._measure.number)
        missed, scores = judge(self._measure, way, self._bound, numbers[:1])
        if missed:
            return Tried(way, Verdict.MISSED, scores, reason=missed)
        timing = self._measure.timing(way)
        if timing.speedup < self._best_speedup * LEAST_GAIN:
            return Tried(way, Verdict.SLOWER, scores, timing)
        missed, scores = judge(self._measure, way, self._bound, numbers)
        verdict = Verdict.MISSED if missed else Verdict.HOLDS
        return Tried(way, verdict, scores, timing, missed or "")


def judge(
    measure: Yardstick, way: Way, bound: Bound, numbers: Sequence[int]
) -> tuple[str | None, Scores]:
    """Why a way misses the bound, None when it holds, and its scores.

    Args:
        numbers: of images to look at, growing. Before all are seen only a clear miss counts.
    """
    missed, scores = None, measure.scores(way, numbers[0])
    for number in numbers:
        scores = measure.scores(way, number)
        clearly = number < measure.number
        missed = bound.missed(scores.values, clearly=clearly)
        if missed:
            break
    return missed, scores


def _numbers(most: int) -> list[int]:
    """4, 8, 16, ... and `most` itself."""
    numbers = []
    number = FEWEST
    while number < most:
        numbers.append(number)
        number *= 2
    return [*numbers, most]
