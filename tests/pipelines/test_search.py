"""The search finds what is known to be best, stops early, and proves on unseen images."""

from __future__ import annotations

from mindsd.config import Acceleration
from mindsd.errors import RequestError
from mindsd.pipelines.bound import Bound
from mindsd.pipelines.knobs import Knob
from mindsd.pipelines.scores import Scores, Timing
from mindsd.pipelines.search import Search, Verdict
from mindsd.pipelines.tuning import tune
from mindsd.pipelines.way import Way

KNOBS = (
    Knob("step_cache", ("skip:2", "skip:3", "skip:4")),
    Knob("guidance_until", (0.9, 0.8, 0.6)),
)
# What each value saves (share of the time) and costs (SSIM).
KNOWN = {
    "skip:2": (0.3, 0.01),
    "skip:3": (0.4, 0.03),
    "skip:4": (0.5, 0.2),
    0.9: (0.05, 0.01),
    0.8: (0.1, 0.02),
    0.6: (0.2, 0.04),
}
BOUND = Bound.parse("ssim>=0.945")


class Fake:
    """Costs and savings that add up; counts what it is asked."""

    def __init__(self, number: int = 16, worse: float = 0.0, refused: tuple[str, ...] = ()):
        self.number = number
        self.seen: dict[Way, int] = {}
        self.timed: list[Way] = []
        self._worse = worse
        self._refused = refused

    def refuses(self, way: Way) -> str | None:
        told = [name for name in self._refused if name in way.acceleration.as_json()]
        return f"no {told[0]} here" if told else None

    def scores(self, way: Way, number: int) -> Scores:
        self.seen[way] = max(number, self.seen.get(way, 0))
        values = [KNOWN[value] for value in way.acceleration.as_json().values()]
        ssim = 1 - sum(cost for _, cost in values) - self._worse * bool(values)
        return Scores((30.0,) * number, tuple(ssim + 0.001 * (i % 2) for i in range(number)))

    def timing(self, way: Way) -> Timing:
        self.timed.append(way)
        own = 1 - sum(KNOWN[value][0] for value in way.acceleration.as_json().values())
        if way.steps is not None:
            own = way.steps / 20
        return Timing((own,) * 3, (1.0,) * 3)


def accelerated(**fields) -> Way:
    return Way(Acceleration.from_json(fields))


def test_it_finds_the_fastest_within_the_bound():
    measure = Fake()
    held = Search(measure, BOUND, KNOBS).run()
    assert held[0].way == accelerated(step_cache="skip:3", guidance_until=0.8)
    speedups = [tried.speedup for tried in held]
    assert speedups == sorted(speedups, reverse=True)
    assert len(measure.timed) == len(set(measure.timed))


def test_a_clear_miss_is_seen_on_few_images_and_ends_the_knob():
    measure = Fake(number=64)
    told = []
    Search(measure, BOUND, (Knob("step_cache", ("skip:4", "skip:3")),), told.append).run()
    assert [tried.verdict for tried in told] == [Verdict.MISSED]
    assert told[0].reason.startswith("ssim 0.8") and told[0].timing is None
    assert measure.seen == {accelerated(step_cache="skip:4"): 4} and not measure.timed


def test_what_is_no_faster_is_not_kept_and_bolder_is_tried(monkeypatch):
    monkeypatch.setitem(KNOWN, "skip:2", (-0.1, 0.0))
    told = []
    held = Search(Fake(), BOUND, KNOBS[:1], told.append).run()
    assert [tried.verdict for tried in told[:2]] == [Verdict.SLOWER, Verdict.HOLDS]
    assert len(told[0].scores or ()) == 4  # no more images for what is no faster
    assert [tried.way for tried in held] == [accelerated(step_cache="skip:3")]


def test_what_the_model_cannot_do_is_passed_over():
    told = []
    held = Search(Fake(refused=("step_cache",)), BOUND, KNOBS, told.append).run()
    refused = [tried for tried in told if tried.verdict is Verdict.REFUSED]
    assert refused[0].reason == "no step_cache here" and refused[0].scores is None
    assert held[0].way == accelerated(guidance_until=0.6)


class Alone(Knob):
    """Its values go beside nothing else."""

    def turned(self, acceleration: Acceleration, value: str | float) -> Acceleration:
        if not acceleration.is_plain:
            raise RequestError("not beside others")
        return super().turned(acceleration, value)


def test_values_that_do_not_go_together_are_told():
    told = []
    knobs = (KNOBS[0], Alone("guidance_until", (0.9,)))
    held = Search(Fake(), BOUND, knobs, told.append).run()
    refused = [tried.reason for tried in told if tried.verdict is Verdict.REFUSED]
    assert refused == ["guidance_until 0.9 beside it: not beside others"] * 2
    assert held[0].way == accelerated(step_cache="skip:3")


def test_the_winner_is_proved_beside_plain_and_fewer_steps():
    told = []
    unseen = Fake()
    found = tune(Fake(), unseen, BOUND, 20, knobs=KNOBS, told=told.append)
    proved = [tried for tried in told if tried.unseen]
    assert found and found is proved[0] and found.verdict is Verdict.HOLDS
    assert [tried.way for tried in proved] == [found.way, Way(), Way(steps=10)]
    assert proved[1].speedup == 1 and proved[2].speedup == 2
    assert all(len(tried.scores or ()) == unseen.number for tried in proved)


def test_what_misses_on_unseen_images_gives_way_to_the_next():
    told = []
    found = tune(Fake(), Fake(worse=0.01), BOUND, 20, knobs=KNOBS, told=told.append)
    proved = [tried for tried in told if tried.unseen]
    assert proved[0].verdict is Verdict.MISSED and proved[0].reason.startswith("ssim 0.94")
    assert found is not None and found.speedup < 2 and found.verdict is Verdict.HOLDS


def test_nothing_is_found_where_nothing_holds():
    assert tune(Fake(), Fake(), Bound.parse("ssim>=0.9999"), 20, knobs=KNOBS) is None
    assert tune(Fake(), Fake(worse=0.5), BOUND, 20, knobs=KNOBS) is None


def test_what_is_faster_only_in_the_search_is_not_taken(monkeypatch):
    unseen = Fake()
    monkeypatch.setattr(unseen, "timing", lambda way: Timing((1.0,), (1.0,)))
    told = []
    assert tune(Fake(), unseen, BOUND, 20, knobs=KNOBS, told=told.append) is None
    assert {t.verdict for t in told if t.unseen} == {Verdict.SLOWER}
