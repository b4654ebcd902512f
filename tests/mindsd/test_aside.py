"""What runs aside gives its result or its error, on a thread that is gone afterwards; teams of
workers are let go of."""

from __future__ import annotations

import os
import subprocess
import sys
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
    if own._openmp() is None:
        pytest.skip("torch runs on no libgomp of its own here")
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


def end(threads: set[str]) -> bool:
    """Whether they do, in good time."""
    patience = time.monotonic() + 20
    while threads & tasks() and time.monotonic() < patience:
        time.sleep(0.001)
    return not threads & tasks()


@pytest.mark.usefixtures("two_workers")
def test_a_team_is_let_go_of_and_comes_back():
    def work() -> list[bool]:
        let_go()  # it has none
        first = team()
        let_go()
        return [bool(first), end(first), bool(team())]

    assert aside(work) == [True, True, True]


@pytest.mark.usefixtures("two_workers")
def test_who_asks_an_engine_lets_go_and_an_idle_engine_too():
    def work() -> list[bool]:
        asking = team()
        with Engine() as engine:
            gone, engines = engine.submit(lambda request: (end(asking), team())).result()
            return [bool(asking), gone, bool(engines), end(engines)]

    assert aside(work) == [True, True, True, True]


FORKED = """
import os, signal, torch
from mindsd.engine import Engine
torch.set_num_threads(2)
torch.ones(2**20).sin()
child = os.fork()
if child == 0:
    signal.alarm(60)
    with Engine() as engine:
        os._exit(engine.submit(lambda request: 7).result())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_an_engine_too():
    """The workers of who forked are not there, and must not be waited for."""
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["7"]
