"""A trial on its model: tune it, or bench it.

Imports torch and diffusers; the commands import this file when they run.
"""

from __future__ import annotations

from mindsd.aside import aside
from mindsd.errors import OutOfMemory, RequestError
from mindsd.pipelines.bench import computes_all, ways
from mindsd.pipelines.calibrate import calibrate
from mindsd.pipelines.knobs import KNOBS, calibrated
from mindsd.pipelines.peak import MEANING
from mindsd.pipelines.profile import Profile
from mindsd.pipelines.scores import Scores
from mindsd.pipelines.tuning import tune
from mindsd.pipelines.way import Way

from .findings import Finding
from .interrupt import Interrupt
from .trial import Trial
from .watch import Watch
from .workbench import Workbench


def tuned(trial: Trial, watch: Watch, interrupt: Interrupt) -> Profile | None:
    """The profile of the fastest that holds the bound; None when nothing faster than plain does."""
    with Workbench(trial, watch, interrupt) as bench:
        assert trial.limits is not None
        first, second = bench.samples
        # Outside the engine, so on a thread whose workers are gone when the time is taken.
        plans = aside(lambda: calibrate(bench.draw, first, bench.pattern, watch.measuring))
        found = tune(
            bench.measure(first),
            bench.measure(second),
            trial.limits,
            bench.steps,
            knobs=calibrated(plans) if plans else KNOBS,
            told=lambda tried: watch.found(Finding.of(tried)),
        )
        return None if found is None else bench.profile(found)


def benched(trial: Trial, watch: Watch, interrupt: Interrupt) -> None:
    """Lay plain, every speed, every method alone and fewer steps side by side."""
    with Workbench(trial, watch, interrupt) as bench:
        measure = bench.measure(bench.samples[0])
        able = []
        for way in ways(bench.steps, flow=bench.draw.arguments.flows):
            if (reason := measure.refuses(way)) is None:
                able.append(way)
            else:
                watch.noted(f"{way} was passed over: {reason}")
        if idle := computes_all(able, bench.steps, flow=bench.draw.arguments.flows):
            named = ", ".join(map(str, idle))
            watch.noted(
                f"in {bench.steps} steps none is left out by {named}: they draw as plain does, and "
                "their times differ by chance; say more --steps"
            )
        scores: dict[Way, Scores] = {}
        try:
            for way in able:  # images first, which warms each way up
                try:
                    scores[way] = measure.scores(way, measure.number)
                except (RequestError, OutOfMemory) as error:  # some refuse only when they run
                    if way.is_plain:
                        raise
                    watch.noted(f"{way} was passed over: {error}")
            measure.timings(list(scores))
        finally:
            timings = measure.known(able)
            for way, own in scores.items():
                found = Finding(way, "bench", own, timings.get(way), measure.peaks.get(way))
                watch.found(found)
        watch.noted(f"peak memory: {MEANING[bench.draw.model.device.kind]}")
