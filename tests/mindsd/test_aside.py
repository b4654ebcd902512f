"""What runs aside gives its result or its error, on a thread that is gone afterwards."""

from __future__ import annotations

import threading
import time

import pytest

from mindsd.aside import aside


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
