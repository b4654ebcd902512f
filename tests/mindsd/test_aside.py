"""What runs aside gives its result or its error, on a thread that is gone afterwards; teams of
workers are let go of."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from mindsd import aside as own
from mindsd.aside import aside, let_go
from mindsd.engine import Engine


def test_the_result_comes_back_and_the_thread_is_gone():
    names: list[str] = []

    def work() -> int:
        names.append(threading.current_thread().name)
        return 7

    before = threading.active_count()
    assert aside(work) == 7
    assert names == ["aside"] and threading.active_count() == before


def test_the_error_comes_back():
    def work() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        aside(work)


def test_an_interrupt_stops_it_and_waits_for_its_end(monkeypatch):
    ended: list[bool] = []
    joins = iter([True, False])
    join = threading.Thread.join

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        if next(joins):
            raise KeyboardInterrupt
        join(self, timeout)

    def work() -> None:
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.append(True)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        aside(work)
    assert ended == [True]


@pytest.fixture
def two_workers() -> Iterator[None]:
    """Every thread that computes has a team."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def tasks() -> set[str]:
    """The threads that the system knows of."""
    return set(os.listdir("/proc/self/task"))


def team() -> set[str]:
    """Those that parallel work made."""
    before = tasks()
    torch.ones(2**20).sin()
    return tasks() - before


@pytest.mark.usefixtures("two_workers")
def test_a_team_is_let_go_of_and_comes_back():
    if own._openmp() is None:
        pytest.skip("torch brings no OpenMP of GNU here")

    def work() -> list[bool]:
        let_go()  # it has none
        first = team()
        let_go()
        left = first & tasks()
        return [bool(first), bool(left), bool(team())]

    assert aside(work) == [True, False, True]


@pytest.mark.usefixtures("two_workers")
def test_who_asks_an_engine_lets_go_and_an_idle_engine_too():
    if own._openmp() is None:
        pytest.skip("torch brings no OpenMP of GNU here")

    def work() -> list[bool]:
        asking = team()
        with Engine() as engine:
            left, engines = engine.submit(lambda request: (asking & tasks(), team())).result()
            while engines & tasks():
                time.sleep(0.001)
        return [bool(asking), bool(left), bool(engines)]

    assert aside(work) == [True, False, True]
