"""Counting is arithmetic: no engine needed."""

import pytest

from mindsd.app.tally import Job, Tally
from mindsd.pipelines.parameters import ImageParameters
from mindsd.request import Done, Failed, Started, Step

ASKED = ImageParameters("a")


@pytest.fixture
def tally():
    return Tally([Job(number, ASKED, ASKED, 10) for number in (1, 2)], 2)


def test_nothing_yet(tally):
    assert (tally.done, tally.steps, tally.rate, tally.left) == (0, 20, 0.0, None)
    assert tally.doing == "waiting"


def test_what_it_does_follows_the_events(tally):
    first, second = tally.jobs
    told = [tally.doing]
    for job, event in [
        (first, Started(0)),
        (first, Step(1, 10, 1.0)),
        (second, Started(0)),
        (first, Step(10, 10, 1.0)),
        (first, Done(None, 1.0)),
        (second, Failed(ValueError())),
    ]:
        tally.update(job, event)
        told.append(tally.doing)
    expected = ["waiting", "encoding", "drawing", "drawing", "decoding", "encoding", "waiting"]
    assert told == expected
    tally.stopping = True
    assert tally.doing == "stopping"


def test_rate_and_time_left(tally, monkeypatch):
    clock = iter([100.0, 104.0, 104.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    tally.update(tally.jobs[0], Started(0))
    tally.update(tally.jobs[0], Step(8, 10, 4.0))
    assert tally.rate == 2.0
    monkeypatch.setattr("time.perf_counter", lambda: 104.0)
    assert tally.left == 6.0


def test_steps_become_what_the_pipeline_says(tally):
    tally.update(tally.jobs[0], Step(1, 6, 1.0))  # image-to-image does strength * steps
    assert tally.steps == 16


def test_an_image_that_failed_is_no_longer_waited_for(tally):
    first, second = tally.jobs
    tally.update(first, Step(4, 10, 1.0))
    tally.update(first, Failed(ValueError()))
    tally.update(second, Done(None, 1.0))
    assert (tally.done, tally.steps) == (14, 14)
