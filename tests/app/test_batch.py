"""A batch of anything: each item by itself, so many at a time, until a signal."""

import os
import signal
import threading

import pytest

from mindsd.app.batch import Batch
from mindsd.app.batch_progress import BatchLines, BatchTally
from mindsd.app.interrupt import Interrupt
from mindsd.engine import Engine
from mindsd.errors import EngineClosed, RequestError
from mindsd.request import Need, Notice


class Halves:
    """Halves whole numbers; half of them cannot be."""

    in_flight = 2

    def __init__(self, engine):
        self._engine = engine
        self.kept, self.wrong = {}, {}
        self.live = self.most = 0

    def submit(self, item):
        if item < 0:
            raise RequestError(f"{item} is\nbelow 0")
        self.live += 1
        self.most = max(self.most, self.live)
        return self._engine.submit(lambda own: self._halved(own, item), Need(rows=0))

    def done(self, item, result):
        self.live -= 1
        self.kept[item] = result

    def failed(self, item, reason):
        self.live -= item >= 0
        self.wrong[item] = reason

    def _halved(self, request, item):
        request.emit(Notice("halves are whole"))
        if item % 2:
            raise ValueError("odd")
        return item // 2


@pytest.fixture
def work():
    with Engine() as engine:
        yield Halves(engine)


def test_each_by_itself(work, capsys):
    tally = BatchTally(7, 0)
    with Interrupt() as interrupt:
        Batch(work, tally, BatchLines()).run([8, 3, -1, 6, 0, 4, 2], interrupt)
    assert work.kept == {8: 4, 6: 3, 0: 0, 4: 2, 2: 1} and work.most == 2
    assert work.wrong == {3: "ValueError: odd", -1: "-1 is below 0"}
    assert (tally.done, tally.failed, tally.stopping) == (5, 2, False)
    assert capsys.readouterr().err == "note: halves are whole\n"


def test_a_signal_cancels_what_is_not_finished(work):
    tally, begun = BatchTally(9, 0), threading.Event()

    def slow(request, item):
        begun.wait(10)
        return item

    def items():
        yield 0
        os.kill(os.getpid(), signal.SIGINT)
        begun.set()
        yield from range(1, 9)

    work._halved = slow
    with Interrupt() as interrupt:
        Batch(work, tally, BatchLines()).run(items(), interrupt)
    assert tally.stopping and set(work.kept) <= {0} and not work.wrong


def test_an_engine_that_broke_ends_it(work):
    def closed(item):
        raise EngineClosed("it broke")

    work.submit = closed
    with Interrupt() as interrupt, pytest.raises(EngineClosed):
        Batch(work, BatchTally(1, 0), BatchLines()).run([2], interrupt)
