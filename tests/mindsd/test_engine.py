"""The engine runs straight-line bodies together and keeps them apart."""

import asyncio
import gc
import threading
import weakref

import pytest
import torch

from mindsd.batching.coroutine import make_batchable
from mindsd.engine import Engine, Limits
from mindsd.errors import Cancelled, EngineClosed, OutOfMemory, QueueFull, RequestError
from mindsd.request import Done, Need, Queued, Started, Step


class Adder(torch.nn.Module):
    """Adds one; can be told to wait, so that a test controls who meets whom."""

    def __init__(self):
        super().__init__()
        self.sizes = []
        self.gate = threading.Event()
        self.gate.set()

    def forward(self, sample):
        self.gate.wait(10)
        self.sizes.append(len(sample))
        return sample + 1


@pytest.fixture
def module():
    adder = Adder()
    taken = make_batchable(adder, "forward", "denoise")
    yield adder
    taken.remove()


@pytest.fixture
def engine():
    with Engine(Limits(rows=8)) as running:
        yield running


def steps(module, count, start=0.0, rows=1):
    def body(request):
        x = torch.full((rows, 1), start)
        for i in range(count):
            x = module(x)
            request.emit(Step(i + 1, count, request.seconds()))
        return x[0, 0].item()

    return body


def together(engine, module, bodies, **need):
    """Submit while the module waits, so that all bodies are live before the first forward ends."""
    module.gate.clear()
    requests = [engine.submit(body, Need(**need)) for body in bodies]
    module.gate.set()
    return requests


def test_requests_of_different_lengths_share_forwards(engine, module):
    first = engine.submit(steps(module, 1))
    first.result(10)
    requests = together(engine, module, [steps(module, n, start=n * 100) for n in (3, 5, 9)])
    assert [request.result(10) for request in requests] == [303, 505, 909]
    assert max(module.sizes) == 3
    assert len(module.sizes) < 1 + 3 + 5 + 9
    assert engine.counts.rows["denoise"] == 1 + 3 + 5 + 9


def test_a_request_of_one_goes_the_same_way(engine, module):
    request = engine.submit(steps(module, 2))
    kinds = [type(event) for event in request.events()]
    assert kinds == [Queued, Started, Step, Step, Done]
    assert engine.counts.forwards == {"denoise": 2}


def test_outside_a_request_the_module_runs_as_always(module):
    assert torch.equal(module(torch.zeros(1)), torch.ones(1))


def test_an_error_in_one_body_leaves_the_others_alone(engine, module):
    def broken(request):
        module(torch.zeros(1, 1))
        raise KeyError("mine")

    bad, good = together(engine, module, [broken, steps(module, 4)])
    with pytest.raises(KeyError, match="mine"):
        bad.result(10)
    assert good.result(10) == 4


def test_cancelling_stops_at_the_next_call_and_unwinds_the_body(engine, module):
    unwound = []

    def endless(request):
        try:
            while True:
                module(torch.zeros(1, 1))
                request.emit(Step(1, 1, 0.0))
        finally:
            unwound.append(True)

    request, other = engine.submit(endless), engine.submit(steps(module, 50))
    for event in request.events():
        if isinstance(event, Step):
            request.cancel()
            break
    with pytest.raises(Cancelled):
        request.result(10)
    assert unwound == [True]
    assert other.result(10) == 50


def test_a_body_that_swallows_its_cancellation_is_stopped_again(engine, module):
    swallowed = []

    def stubborn(request):
        while len(swallowed) < 3:
            try:
                module(torch.zeros(1, 1))
            except Cancelled:
                swallowed.append(True)
        return "done"

    request = engine.submit(stubborn)
    request.cancel()
    assert engine.drain(10)
    assert len(swallowed) in (0, 3)  # cancelled before its body began, or at each of its calls


def test_a_queued_request_is_cancelled_without_waiting_for_room(module):
    with Engine(Limits(rows=1)) as engine:
        module.gate.clear()
        live = engine.submit(steps(module, 2))
        queued = [engine.submit(steps(module, 2)) for _ in range(3)]
        queued[2].cancel()
        module.gate.set()
        with pytest.raises(Cancelled):
            queued[2].result(10)
        assert live.result(10) == 2
        assert [request.result(10) for request in queued[:2]] == [2, 2]


def test_admission_keeps_rows_and_memory_within_the_limits(module):
    for limits, need, most in [
        (Limits(rows=4), {"rows": 2}, 2),
        (Limits(rows=8, memory=300), {"memory": 100}, 3),
    ]:
        module.sizes.clear()
        with Engine(limits) as engine:
            requests = together(engine, module, [steps(module, 3)] * 6, **need)
            assert [request.result(10) for request in requests] == [3] * 6
        assert max(module.sizes) <= most


def test_a_request_above_every_limit_is_let_in_alone(module):
    with Engine(Limits(rows=1, memory=1)) as engine:
        assert engine.submit(steps(module, 2), Need(rows=5, memory=50)).result(10) == 2


def test_higher_priority_is_admitted_first(module):
    order = []

    def body(name):
        def run(request):
            order.append(name)
            module(torch.zeros(1, 1))

        return run

    with Engine(Limits(rows=1)) as engine:
        module.gate.clear()
        first = engine.submit(body("first"))
        next(event for event in first.events() if isinstance(event, Started))
        engine.submit(body("low"))
        engine.submit(body("high"), Need(priority=1))
        module.gate.set()
        engine.drain(10)
    assert order == ["first", "high", "low"]


def test_the_queue_has_a_limit(module):
    with Engine(Limits(rows=1, queue=1)) as engine:
        module.gate.clear()
        started = engine.submit(steps(module, 1))
        next(event for event in started.events() if isinstance(event, Started))
        engine.submit(steps(module, 1))
        with pytest.raises(QueueFull, match="1 requests wait already"):
            engine.submit(steps(module, 1))
        module.gate.set()


def test_a_closed_engine_cancels_what_it_has_and_takes_no_more(module):
    engine = Engine()
    module.gate.clear()
    request = engine.submit(steps(module, 1000))
    closing = threading.Thread(target=engine.close)
    closing.start()
    module.gate.set()
    closing.join(10)
    with pytest.raises(Cancelled):
        request.result(10)
    with pytest.raises(EngineClosed):
        engine.submit(steps(module, 1))


def test_an_idle_engine_holds_nothing_of_what_it_ran(engine, module):
    class Mark:
        """Something a weak reference can watch."""

    marks = []

    def body(request):
        mark = Mark()
        marks.append(weakref.ref(mark))
        module(torch.zeros(1, 1))
        if len(marks) % 2:
            raise ValueError("failed")
        return mark

    requests = [engine.submit(body) for _ in range(6)]
    assert engine.drain(10) and engine.load() == (0, 0)
    engine.submit(lambda request: None).result(10)  # now its thread has left the others' frames
    watched = [weakref.ref(request) for request in requests]
    del requests
    gc.collect()
    assert [ref() for ref in marks] == [None] * 6
    assert [ref() for ref in watched] == [None] * 6


def test_a_bug_in_the_engine_leaves_nobody_waiting(module, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    engine = Engine()
    monkeypatch.setattr(engine._turn, "choose", lambda *args: 1 / 0)
    request = engine.submit(steps(module, 1))
    with pytest.raises(ZeroDivisionError):
        request.result(10)
    with pytest.raises(EngineClosed):
        engine.submit(steps(module, 1))


def test_limits_are_checked():
    with pytest.raises(RequestError, match="at least 1"):
        Limits(rows=0)


def test_what_no_body_should_raise_ends_that_body_only(engine, module):
    class Panic(BaseException):
        """As a tokenizer written in Rust raises it."""

    def panic(request):
        module(torch.zeros(1, 1))
        raise Panic("mine")

    bad, good = together(engine, module, [panic, steps(module, 4)])
    with pytest.raises(Panic, match="mine"):
        bad.result(10)
    assert good.result(10) == 4
    assert engine.submit(steps(module, 1)).result(10) == 1


def test_a_listener_that_breaks_takes_nothing_with_it(engine, module):
    def broken(event):
        raise RuntimeError("event loop is closed")

    module.gate.clear()
    first, second = engine.submit(steps(module, 3)), engine.submit(steps(module, 3))
    next(event for event in first.events() if isinstance(event, Started))
    first.redirect(broken)
    module.gate.set()
    assert first.result(10) == second.result(10) == 3


def test_a_listener_may_cancel_while_it_listens(engine, module):
    requests = [engine.submit(steps(module, 50)) for _ in range(4)]
    for request in requests:
        request.redirect(lambda event, request=request: request.cancel())
    assert engine.drain(10)


def test_a_solo_request_shares_no_forward(engine, module):
    requests = together(engine, module, [steps(module, 5)] * 2, solo=True)
    assert [request.result(10) for request in requests] == [5, 5]
    assert "denoise" not in engine.counts.forwards and max(module.sizes) == 1


def test_autocast_stays_with_the_request_that_entered_it(engine, module):
    seen = []

    def inside(request):
        with torch.autocast("cpu", torch.bfloat16):
            module(torch.zeros(1, 1))

    def outside(request):
        module(torch.zeros(1, 1))
        seen.append(torch.is_autocast_enabled("cpu"))

    for request in together(engine, module, [inside, outside, inside, outside]):
        request.result(10)
    engine.submit(outside).result(10)
    assert seen == [False] * 3


def test_a_body_cannot_wait_for_another_request_of_its_engine(engine, module):
    def body(request):
        return engine.submit(lambda other: "never")

    inner = engine.submit(body).result(10)
    assert inner.result(10) == "never"  # from another thread it can
    waiting = engine.submit(lambda request: engine.submit(lambda other: None).result(10))
    with pytest.raises(RequestError, match="the thread that would run it is the one that waits"):
        waiting.result(10)


def test_memory_that_runs_out_in_a_body_is_said_by_name(engine, module):
    def body(request):
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    with pytest.raises(OutOfMemory, match="80 GiB"):
        engine.submit(body).result(10)


def test_a_listener_that_raises_what_nobody_should_harms_nobody(engine, module):
    def put(event):
        if threading.current_thread() is not threading.main_thread():
            raise asyncio.CancelledError

    first = engine.submit(steps(module, 3))
    first.redirect(put)
    assert first.result(10) == 3
    assert engine.submit(steps(module, 2)).result(10) == 2
    assert engine.drain(10)
