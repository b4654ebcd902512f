"""The engine: requests written for one user, run for many.

Each request body is straight-line code in a greenlet. Where it calls a batchable module it is
suspended; the engine's one thread gathers what all live requests ask, runs what fits together as
one forward, and resumes each request with its own rows:

    request A  encode -> denoise t=981 -> denoise t=961 -> ... -> decode -> image
    request B            encode -> denoise t=981 -> ...                (joined later)
                    \\        |        /
                     one forward per group

The thread works under `torch.inference_mode()` from its first line on, because bodies enter and
leave `no_grad` interleaved. Calls are pure, so a group that fails is split in two and run again: an
error, or memory that runs out, reaches only the request that causes it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from mindsd.batching import stack
from mindsd.batching.call import Batchable, Call, read
from mindsd.batching.turn import Turn
from mindsd.errors import Cancelled, EngineClosed, OutOfMemory, QueueFull, RequestError
from mindsd.request import Body, Done, Failed, Need, Queued, Request
from mindsd.wrap import Wrap, wrap


@dataclass(frozen=True)
class Limits:
    """How much the engine takes on.

    Attributes:
        rows: rows in one forward, and rows of all live requests together.
        queue: requests that may wait; one more is refused with `QueueFull`.
        memory: bytes of activations of all live requests; None for no bound.
    """

    rows: int = 32
    queue: int = 1024
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 1 or self.queue < 1 or (self.memory is not None and self.memory < 1):
            raise RequestError(f"rows, queue and memory must be at least 1, got {self}")


@dataclass
class Counts:
    """What the engine has done: forwards and rows by kind of work, and groups it had to split."""

    forwards: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    splits: int = 0

    def add(self, kind: str, rows: int) -> None:
        self.forwards[kind] = self.forwards.get(kind, 0) + 1
        self.rows[kind] = self.rows.get(kind, 0) + rows


ONE_ROW = Need()


class _Coroutine(greenlet):
    """The greenlet of a request; a batchable module called inside one suspends it."""


@dataclass(eq=False)
class _Live:
    """A request that was admitted: its coroutine and the call it waits for."""

    request: Request
    coroutine: _Coroutine
    arrival: int = 0
    pending: Call | None = None

    @property
    def call(self) -> Call:
        assert self.pending is not None
        return self.pending

    @property
    def order(self) -> tuple[int, int]:
        return (-self.request.need.priority, self.arrival)


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: BaseException | None = None


def make_batchable(owner: object, method: str, kind: str) -> Wrap:
    """Let every engine run `owner.method` for many requests at once.

    Called inside a request the method suspends it; called anywhere else it runs as always.

    Args:
        owner: a module; only this instance is touched.
        method: "forward", or the method that pipelines call ("decode").
        kind: "text", "denoise" or "image"; the engine is fair between kinds.
    """
    batchable = Batchable(getattr(owner, method), kind)

    def suspend(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        here = getcurrent()
        call = read(batchable, args, kwargs) if isinstance(here, _Coroutine) else None
        if call is None:
            return original(*args, **kwargs)
        assert here.parent is not None
        return here.parent.switch(call)

    return wrap(owner, method, suspend)


class Engine:
    """Runs request bodies on one thread; safe to use from any other."""

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.counts = Counts()
        self._turn = Turn()
        self._queue: list[Request] = []
        self._live: list[_Live] = []
        self._arrivals = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    # -- called from any thread ------------------------------------------------------------------

    def submit(self, body: Body, need: Need = ONE_ROW) -> Request:
        """Take a request in; `body(request)` runs on the engine's thread and returns the result.

        Raises:
            QueueFull: `limits.queue` requests already wait.
            EngineClosed: `close` was called.
        """
        request = Request(body, need)
        request.wake = self._notify
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed; make a new one")
            if len(self._queue) >= self.limits.queue:
                raise QueueFull(f"{len(self._queue)} requests wait already; submit again later")
            request.emit(Queued(len(self._queue)))
            self._queue.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return request

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued or live; False when `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._live, timeout)

    def close(self) -> None:
        """Cancel everything, take no more, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            for request in [*self._queue, *(live.request for live in self._live)]:
                request.cancelled.set()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def load(self) -> tuple[int, int]:
        """How many requests are queued and how many are live."""
        with self._changed:
            return len(self._queue), len(self._live)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # -- the engine's own thread -----------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        try:
            while self._wait():
                self._admit()
                self._stop_cancelled()
                if self._live:
                    self._forward()
        except BaseException as bug:  # ours: nobody may wait for ever on a thread that is gone
            self._give_up(bug)
            raise

    def _give_up(self, bug: BaseException) -> None:
        with self._changed:
            self._closed = True
            left = [*self._queue, *(live.request for live in self._live)]
            self._queue.clear()
            self._live.clear()
            self._changed.notify_all()
        for request in left:
            request.emit(Failed(bug))

    def _wait(self) -> bool:
        """Sleep while there is nothing to do; False when the engine was closed and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._live or self._closed)
            return bool(self._queue or self._live)

    def _admit(self) -> None:
        """Start the requests that there is room for: highest priority first, then oldest."""
        admitted: list[_Live] = []
        with self._changed:
            self._queue.sort(key=lambda r: (-r.need.priority, r.number))
            while self._queue and (self._queue[0].cancelled.is_set() or self._has_room()):
                admitted.append(_Live(self._queue.pop(0), _Coroutine(_tell)))
                self._live.append(admitted[-1])
        for live in admitted:
            self._resume(live)

    def _has_room(self) -> bool:
        """Whether the first in the queue fits beside what is live; alone it is always let in."""
        needs = [live.request.need for live in self._live] + [self._queue[0].need]
        if len(needs) == 1:
            return True
        memory = self.limits.memory
        return sum(need.rows for need in needs) <= self.limits.rows and (
            memory is None or sum(need.memory for need in needs) <= memory
        )

    def _stop_cancelled(self) -> None:
        """Raise inside each cancelled request, again where its code goes on to another call."""
        for live in [live for live in self._live if live.request.cancelled.is_set()]:
            stop = Cancelled(f"request {live.request.number} was cancelled")
            self._resume(live, _Outcome(error=stop))

    def _forward(self) -> None:
        """Run the next group and resume its requests."""
        group = self._turn.choose(self._live, self.limits.rows)
        started = time.perf_counter()
        outcomes = self._outcomes([live.call for live in group])
        self._turn.charge(group[0].call.batchable.kind, time.perf_counter() - started)
        for live, outcome in zip(group, outcomes, strict=True):
            self._resume(live, outcome)

    def _outcomes(self, calls: list[Call]) -> list[_Outcome]:
        """Run calls as one forward; when that fails, halve the group until the culprit is alone."""
        try:
            results = stack.run(calls)
            self.counts.add(calls[0].batchable.kind, sum(call.rows for call in calls))
            return [_Outcome(value) for value in results]
        except stack.NotRows:
            calls[0].batchable.alone = True
            self.counts.splits += 1
            return [outcome for call in calls for outcome in self._outcomes([call])]
        except Exception as error:
            if len(calls) == 1:
                return [_Outcome(error=_explain(error, calls[0]))]
            ran_out = _ran_out(error)
        # Outside the handler: the failed forward's frames, and the memory they hold, are gone here.
        self.counts.splits += 1
        half = len(calls) // 2
        if ran_out:
            rows = sum(call.rows for call in calls[:half])
            calls[0].batchable.caps[calls[0].key] = rows
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return self._outcomes(calls[:half]) + self._outcomes(calls[half:])

    def _resume(self, live: _Live, outcome: _Outcome | None = None) -> None:
        """Let a request go on to its next call or its end."""
        live.pending = None
        if outcome is None:
            said = live.coroutine.switch(live.request)
        elif outcome.error is not None:
            said = live.coroutine.throw(outcome.error)
        else:
            said = live.coroutine.switch(outcome.value)
        if live.coroutine.dead:
            self._finish(live, said)
            return
        self._arrivals += 1
        live.pending, live.arrival = said, self._arrivals

    def _finish(self, live: _Live, end: Done | Failed) -> None:
        with self._changed:
            self._live.remove(live)
            live.request.emit(end)
            self._changed.notify_all()


def _tell(request: Request) -> Done | Failed:
    """The coroutine: run the body and say how it ended; nothing it raises passes this line."""
    try:
        return Done(request.run(), request.seconds())
    except Cancelled as cancelled:
        return Failed(Cancelled(*cancelled.args))  # a fresh one: it holds no frames of the body
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # keeps the lines, lets the tensors go
        return Failed(error)


def _explain(error: Exception, call: Call) -> Exception:
    """Memory that ran out as our own error, anything else as it is."""
    if not _ran_out(error):
        return error
    return OutOfMemory(
        f"a {call.batchable.kind} forward of {call.rows} rows does not fit in memory even alone; "
        f"ask for a smaller size ({error})"
    )


def _ran_out(error: Exception) -> bool:
    """Whether this error says that memory ran out (a CPU's allocator says it in words only)."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)
