"""A body is suspended at its calls, told what they came to, and ends without a trace."""

from __future__ import annotations

import gc
import weakref
from typing import Any, cast

import pytest
import torch
from greenlet import greenlet

from mindsd.batching.call import Call
from mindsd.batching.coroutine import Coroutine, Outcome, ask, is_batchable, make_batchable
from mindsd.errors import Cancelled, OutOfMemory, RequestError
from mindsd.request import Body, Done, Failed, Need, Request


class Module(torch.nn.Module):
    """Adds one, and knows how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = 0

    def forward(self, sample: Any, scale: int = 1) -> Any:
        self.ran += 1
        return sample + scale


@pytest.fixture
def module():
    own = Module()
    taken = make_batchable(own, "forward", "denoise", "adder")
    yield own
    taken.remove()


def started(body: Body, arrival: int = 1, **need: Any) -> Coroutine:
    own = Coroutine(Request(body, Need(**need)))
    own.start(arrival)
    return own


def ended(own: Coroutine) -> Done | Failed:
    assert own.end is not None
    return own.end


def failure(own: Coroutine) -> BaseException:
    end = ended(own)
    assert isinstance(end, Failed)
    return end.error


def test_a_call_suspends_the_body_until_it_has_its_outcome(module):
    own = started(lambda request: module(torch.zeros(2, 1)) * module(torch.ones(3, 1), scale=5)[0])
    assert own.end is None and module.ran == 0 and own.arrival == 1
    first = cast(Call, own.call)
    assert (first.rows, first.kind, first.batchable.name) == (2, "denoise", "adder")
    own.resume(Outcome(torch.tensor([7.0])), 4)
    second = cast(Call, own.call)
    assert second.rows == 3 and own.arrival == 4
    assert torch.equal(second.run(), torch.full((3, 1), 6.0)) and module.ran == 1
    own.resume(Outcome(torch.tensor([3.0])), 5)
    end = ended(own)
    assert isinstance(end, Done) and end.result.tolist() == [21.0]


def test_an_error_is_raised_where_the_call_was_made(module):
    def body(request: Request) -> str:
        try:
            module(torch.zeros(1))
        except ValueError as error:
            return f"met {error}"
        return "nothing"

    own = started(body)
    own.resume(Outcome(error=ValueError("a wall")), 2)
    end = ended(own)
    assert isinstance(end, Done) and end.result == "met a wall"
    own = started(lambda request: module(torch.zeros(1)))
    wall = ValueError("another")
    own.resume(Outcome(error=wall), 2)
    assert failure(own) is wall


def test_priority_goes_before_the_age_of_the_call(module):
    def body(request: Request) -> None:
        for _ in range(2):
            module(torch.zeros(1))

    first, second = started(body, 1), started(body, 2)
    urgent = started(body, 3, priority=1)
    assert sorted([second, first, urgent], key=lambda own: own.order) == [urgent, first, second]
    first.resume(Outcome(torch.zeros(1)), 9)
    assert sorted([second, first, urgent], key=lambda own: own.order) == [urgent, second, first]


def test_outside_of_a_body_a_module_runs_as_always(module):
    assert is_batchable(module) and not is_batchable(Module())
    assert module(torch.zeros(1)).item() == 1
    assert greenlet(lambda: module(torch.zeros(1)).item()).switch() == 1


def test_what_is_taken_off_suspends_nobody():
    module = Module()
    make_batchable(module, "forward", "denoise").remove()
    assert not is_batchable(module)
    end = ended(started(lambda request: module(torch.zeros(1)).item()))
    assert isinstance(end, Done) and end.result == 1


def test_a_call_without_rows_runs_where_it_is(module):
    end = ended(started(lambda request: module(41)))
    assert isinstance(end, Done) and end.result == 42


def test_a_solo_body_goes_on_and_may_be_cancelled_at_every_call(module):
    def body(request: Request) -> float:
        first = module(torch.zeros(1)).item()
        if first and stops:
            request.cancelled.set()
        return module(torch.zeros(1)).item() + first

    stops = False
    end = ended(started(body, solo=True))
    assert isinstance(end, Done) and end.result == 2
    stops = True
    assert isinstance(failure(started(body, solo=True)), Cancelled)
    assert module.ran == 3


def test_inside_autocast_a_body_goes_on(module):
    def body(request: Request) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            module(torch.zeros(1))
        return module(torch.zeros(1))

    own = started(body)
    assert module.ran == 1 and own.end is None and not torch.is_autocast_enabled("cpu")
    own.resume(Outcome(torch.zeros(1)), 2)
    assert isinstance(own.end, Done)


def test_whatever_is_asked_suspends_a_body_and_nothing_else():
    asked: Any = object()
    own = started(lambda request: ask(asked))
    assert own.call is asked
    own.resume(Outcome("told"), 2)
    end = ended(own)
    assert isinstance(end, Done) and end.result == "told"
    for outside in (lambda: ask(asked), greenlet(lambda: ask(asked)).switch):
        with pytest.raises(RequestError, match="inside an engine only"):
            outside()


class Kept:
    """Something that a body holds."""


@pytest.mark.parametrize("error", [KeyError("mine"), Cancelled("enough"), SystemExit(3)])
def test_an_error_holds_nothing_of_the_body(error):
    seen: list[weakref.ref[Kept]] = []

    def body(request: Request) -> None:
        kept = Kept()
        seen.append(weakref.ref(kept))
        raise error

    own = started(body)
    found = failure(own)
    assert type(found) is type(error) and found.args == error.args
    error.__traceback__ = None if isinstance(error, Cancelled) else error.__traceback__
    gc.collect()
    assert seen[0]() is None
    if isinstance(error, Cancelled):
        assert found is not error and found.__traceback__ is None
    else:
        assert found is error and found.__traceback__ is not None  # its lines are kept


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("40 GiB"), RuntimeError("can't allocate memory: 40 GiB")],
)
def test_memory_that_runs_out_is_said_by_name(error):
    def body(request: Request) -> None:
        raise error

    found = failure(started(body))
    assert type(found) is OutOfMemory and "even alone" in str(found) and "40 GiB" in str(found)


def test_what_says_already_that_memory_ran_out_is_left_as_it_is():
    own = OutOfMemory("a denoise forward of 2 rows does not fit")

    def body(request: Request) -> None:
        raise own

    assert failure(started(body)) is own
