"""One model's engine: opened for the first, shut for the last, whoever fails in between."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mindsd.engine import Engine
from mindsd.errors import Cancelled, EngineClosed, RequestError
from mindsd.pipelines.shared_engine import SharedEngine


class Model:
    """Notes how often it was opened and shut."""

    def __init__(self, fails: int = 0):
        self.opened: list[Engine] = []
        self.shuts = 0
        self.made: list[Engine] = []
        self.fails = fails
        self.shared = SharedEngine("it", self._make, self._open, self._shut)

    def _make(self) -> Engine:
        self.made.append(Engine())
        return self.made[-1]

    def _open(self, engine: Engine) -> None:
        self.opened.append(engine)
        if len(self.opened) <= self.fails:
            raise ValueError("not today")

    def _shut(self) -> None:
        self.shuts += 1


def waiting(engine: Engine, shared: SharedEngine, gate: threading.Event) -> Any:
    """A request that runs until the gate opens or it is cancelled."""

    def body(request: Any) -> str:
        while not gate.wait(0.01):
            request.stop_if_cancelled()
        return "done"

    return shared.watch(engine.submit(body))


def test_the_first_opens_it_and_the_last_shuts_it():
    model = Model()
    first, second = model.shared.join(), model.shared.join()
    assert first is second and model.opened == model.made == [first] and model.shared.users == 2
    model.shared.leave()
    assert model.shuts == 0
    assert first.submit(lambda request: 7).result(5) == 7
    model.shared.leave()
    assert (model.shuts, model.shared.users) == (1, 0)
    with pytest.raises(EngineClosed):
        first.submit(lambda request: 7)
    again = model.shared.join()  # with an engine of its own once more
    assert again is not first and model.opened == [first, again]
    model.shared.leave()
    assert model.shuts == 2


def test_a_guests_engine_is_not_closed():
    model = Model()
    with Engine() as guest:
        assert model.shared.join(guest) is guest and model.made == []
        assert model.shared.join() is guest  # whoever comes later has the same
        assert model.shared.join(guest) is guest
        for _ in range(3):
            model.shared.leave()
        assert model.shuts == 1
        assert guest.submit(lambda request: 7).result(5) == 7


def test_another_engine_is_refused_while_it_is_used():
    model = Model()
    with Engine() as guest, Engine() as other:
        model.shared.join(guest)
        with pytest.raises(RequestError, match="it already runs on another engine"):
            model.shared.join(other)
        assert model.shared.users == 1
        model.shared.leave()
        assert model.shared.join(other) is other
        model.shared.leave()


def test_what_fails_to_open_is_shut_and_may_be_tried_again():
    model = Model(fails=1)
    with pytest.raises(ValueError, match="not today"):
        model.shared.join()
    assert (model.shuts, model.shared.users) == (1, 0)
    assert model.shared.join() is model.made[1]
    model.shared.leave()
    assert model.shuts == 2


def test_leaving_a_guests_engine_ends_its_requests_and_no_others():
    model, gate = Model(), threading.Event()
    with Engine() as guest:
        model.shared.join(guest)
        mine = waiting(guest, model.shared, gate)
        others = guest.submit(lambda request: gate.wait(5))
        model.shared.leave()
        assert mine.ended and model.shuts == 1
        with pytest.raises(Cancelled):
            mine.result(5)
        gate.set()
        assert others.result(5) is True


def test_leaving_its_own_engine_ends_all_requests():
    model, gate = Model(), threading.Event()
    engine = model.shared.join()
    requests = [waiting(engine, model.shared, gate) for _ in range(3)]
    model.shared.leave()
    for request in requests:
        with pytest.raises(Cancelled):
            request.result(5)


def test_requests_go_on_while_somebody_is_left():
    model, gate = Model(), threading.Event()
    model.shared.join()
    engine = model.shared.join()
    request = waiting(engine, model.shared, gate)
    model.shared.leave()
    assert not request.ended
    gate.set()
    assert request.result(5) == "done"
    model.shared.leave()


def test_who_joins_while_it_closes_is_told():
    model, shutting, go = Model(), threading.Event(), threading.Event()
    with Engine() as guest:
        model.shared.join(guest)

        def stubborn(request: Any) -> None:
            shutting.set()
            go.wait(5)

        model.shared.watch(guest.submit(stubborn))
        shutting.wait(5)
        leaving = threading.Thread(target=model.shared.leave)
        leaving.start()
        while not model.shared._closing:
            pass
        with pytest.raises(EngineClosed, match="it is being closed"):
            model.shared.join(guest)
        go.set()
        leaving.join(5)
        assert model.shuts == 1 and model.shared.join(guest) is guest
        model.shared.leave()


def test_a_model_that_fails_to_shut_is_free_all_the_same():
    model = Model()
    model.shared.join()

    def fail() -> None:
        raise OSError("stuck")

    model.shared._shut = fail
    with pytest.raises(OSError, match="stuck"):
        model.shared.leave()
    model.shared._shut = model._shut
    assert model.shared.join() is model.made[1]
    model.shared.leave()


def test_many_threads_join_and_leave():
    model = Model()
    engines: set[Engine] = set()
    keep = model.shared.join()

    def work() -> None:
        for _ in range(50):
            engines.add(model.shared.join())
            model.shared.leave()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engines == {keep} and model.shared.users == 1 and model.shuts == 0
    model.shared.leave()
    assert model.shuts == 1
