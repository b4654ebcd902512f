"""Who goes next: oldest first, fair between kinds, within the row limit."""

from dataclasses import dataclass

import torch

from mindsd.batching.call import Batchable, Call, read
from mindsd.batching.turn import Turn

KINDS = {kind: Batchable(lambda sample: sample, kind) for kind in ("denoise", "text")}


@dataclass(eq=False)
class Waiter:
    call: Call
    order: tuple[int, int]


def waiter(arrival, kind="denoise", size=8, rows=2, priority=0):
    call = read(KINDS[kind], (torch.zeros(rows, size),), {})
    assert call is not None
    return Waiter(call, (-priority, arrival))


def test_the_oldest_call_brings_all_that_fit_it():
    old, other, young = waiter(1), waiter(2, size=16), waiter(3)
    assert Turn().choose([young, other, old], rows=32) == [old, young]


def test_a_group_stays_within_the_rows_but_always_has_one():
    waiters = [waiter(i) for i in range(5)]
    assert Turn().choose(waiters, rows=5) == waiters[:2]
    assert Turn().choose(waiters, rows=1) == waiters[:1]


def test_rows_that_once_ran_out_of_memory_are_remembered():
    waiters = [waiter(i, size=99) for i in range(5)]
    KINDS["denoise"].caps.failed(waiters[0].call.key, 4)
    assert Turn().choose(waiters, rows=32) == waiters[:2]


def test_priority_goes_before_age():
    old, urgent = waiter(1), waiter(2, size=16, priority=1)
    assert Turn().choose([old, urgent], rows=32) == [urgent]


def test_kinds_share_the_time_not_the_turns():
    turn, served = Turn(), []
    seconds = {"denoise": 1.0, "text": 0.1}
    for arrival in range(220):
        chosen = turn.choose([waiter(arrival, "denoise"), waiter(arrival, "text")], rows=32)
        kind = chosen[0].call.batchable.kind
        turn.charge(kind, seconds[kind])
        served.append(kind)
    assert served.count("text") == 200 and served.count("denoise") == 20


def test_a_kind_that_was_idle_does_not_catch_up():
    turn = Turn()
    for arrival in range(100):
        turn.choose([waiter(arrival, "denoise")], rows=32)
        turn.charge("denoise", 1.0)
    served = []
    for arrival in range(10):
        chosen = turn.choose([waiter(arrival, "denoise"), waiter(arrival, "text")], rows=32)
        kind = chosen[0].call.batchable.kind
        turn.charge(kind, 1.0)
        served.append(kind)
    assert served.count("text") == 5
