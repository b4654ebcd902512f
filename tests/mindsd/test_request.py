"""A request tells its story to whoever listens."""

import pytest

from mindsd.errors import Cancelled, RequestError
from mindsd.request import Done, Failed, Need, Queued, Request, Started, Step, follow


def finished(result="image"):
    request = Request(lambda request: result, Need())
    request.emit(Queued(0))
    request.emit(Done(request.run(), request.seconds()))
    return request


def test_events_come_in_order_and_end():
    request = finished()
    assert [type(event) for event in request.events()] == [Queued, Started, Done]
    assert list(request.events()) == []
    assert request.result() == "image" and request.ended


def test_a_failure_is_raised_by_result():
    request = Request(lambda request: None, Need())
    request.emit(Failed(Cancelled("request 1 was cancelled")))
    with pytest.raises(Cancelled):
        request.result()


def test_result_gives_up_after_its_timeout():
    with pytest.raises(TimeoutError, match="not finished after 0.01 s"):
        Request(lambda request: None, Need()).result(0.01)


def test_a_cancelled_request_never_runs_its_body():
    request = Request(lambda request: pytest.fail("ran"), Need())
    request.cancel()
    with pytest.raises(Cancelled):
        request.run()


def test_follow_merges_what_was_told_before_and_after():
    first, second = finished("a"), Request(lambda request: "b", Need())
    stream = follow([first, second])
    told = [next(stream) for _ in range(3)]
    second.emit(Step(1, 2, 0.1))
    second.emit(Done("b", 0.2))
    told += list(stream)
    assert [event for request, event in told if request is second] == [
        Step(1, 2, 0.1),
        Done("b", 0.2),
    ]
    assert [type(event) for request, event in told if request is first] == [Queued, Started, Done]


def test_needs_are_checked():
    with pytest.raises(RequestError, match="rows >= 0"):
        Need(rows=-1)


def test_the_end_is_told_again_to_whoever_asks_later():
    request = finished()
    assert len(list(request.events())) == 3
    assert [type(event) for _, event in follow([request])] == [Done]
    assert [type(event) for _, event in follow([request])] == [Done]
