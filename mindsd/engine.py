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

import atexit
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from mindsd.aside import let_go
from mindsd.batching.attempt import attempt
from mindsd.batching.coroutine import Coroutine, Outcome
from mindsd.batching.counts import Counts
from mindsd.batching.limits import Limits
from mindsd.batching.runner import Ask, TokenRunner
from mindsd.batching.turn import Turn
from mindsd.errors import Cancelled, EngineClosed, QueueFull
from mindsd.request import Body, Failed, Need, Queued, Request

ONE_ROW = Need()


def _close(engine: weakref.ref[Engine]) -> None:
    if (found := engine()) is not None:
        found.close()


class Engine:
    """Runs request bodies on one thread; safe to use from any other."""

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.counts = Counts()
        self._turn = Turn()
        self._queue: list[Request] = []
        self._live: list[Coroutine] = []
        self._arrivals = 0
        self._ending = 0  # requests that are being told their end
        self._runners: set[TokenRunner] = set()  # those that have run since the engine was idle
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
        let_go()  # who asks has often computed, if only to load a model
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
                atexit.register(_close, weakref.ref(self))  # torch aborts under a running thread
            request.thread = self._thread
            self._changed.notify_all()
        return request

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued or live; False when `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout)

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

    @property
    def closed(self) -> bool:
        """Whether it takes no more, be it that a bug of its own has ended it."""
        return self._closed

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _is_idle(self) -> bool:
        return not self._queue and not self._live and not self._ending

    def _has_news(self) -> bool:
        return bool(self._queue or self._live or self._closed)

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
            if self._is_idle():
                self._check()
                if not self._changed.wait_for(self._has_news, timeout=0.02):
                    let_go()  # another engine may be about to compute
            self._changed.wait_for(self._has_news)
            return bool(self._queue or self._live)

    def _check(self) -> None:
        """Nothing is live: whoever keeps count of something must find it whole."""
        for runner in self._runners:
            runner.check()
        self._runners.clear()

    def _admit(self) -> None:
        """Start the requests that there is room for: highest priority first, then oldest."""
        admitted: list[Coroutine] = []
        with self._changed:
            self._queue.sort(key=lambda r: (not r.cancelled.is_set(), -r.need.priority, r.number))
            while (chosen := self._next()) is not None:
                self._queue.remove(chosen)
                admitted.append(Coroutine(chosen))
                self._live.append(admitted[-1])
        for live in admitted:
            live.start(self._next_arrival())
            self._finish(live)

    def _next(self) -> Request | None:
        """Who is let in next: the first of the queue; where there is no room for it, the first
        text, which takes none of that room."""
        if not self._queue:
            return None
        first = self._queue[0]
        if first.cancelled.is_set() or self._has_room(first):
            return first
        text = next((own for own in self._queue if own.need.rows == own.need.memory == 0), None)
        return text if text is not None and self._has_room(text) else None

    def _has_room(self, request: Request) -> bool:
        """Whether a request fits beside what is live; alone it is always let in."""
        needs = [live.request.need for live in self._live] + [request.need]
        if len(needs) == 1:
            return True
        if request.need.rows == 0 and request.need.memory == 0:
            return sum(need.rows == 0 for need in needs) <= self.limits.texts
        memory = self.limits.memory
        return sum(need.rows for need in needs) <= self.limits.rows and (
            memory is None or sum(need.memory for need in needs) <= memory
        )

    def _stop_cancelled(self) -> None:
        """Raise inside each cancelled request, again where its code goes on to another call."""
        for live in [live for live in self._live if live.request.cancelled.is_set()]:
            stop = Cancelled(f"request {live.request.number} was cancelled")
            self._resume(live, Outcome(error=stop))

    def _forward(self) -> None:
        """Run the next group and resume its requests."""
        group = self._turn.choose(self._live, self.limits.rows)
        started = time.perf_counter()
        outcomes = self._outcomes([live.call for live in group])
        self._turn.charge(group[0].call.kind, time.perf_counter() - started)
        for live, outcome in zip(group, outcomes, strict=True):
            if outcome is not None:
                self._resume(live, outcome)
            else:
                live.arrival = self._next_arrival()  # it had its turn: another runner's is next

    def _outcomes(self, asked: list[Any]) -> Sequence[Outcome | None]:
        """What each came to; None where it goes on waiting."""
        if isinstance(asked[0], Ask):
            self._runners.add(asked[0].runner)
            return asked[0].runner.run(asked)
        return attempt(asked, self.counts)

    def _resume(self, live: Coroutine, outcome: Outcome) -> None:
        live.resume(outcome, self._next_arrival())
        self._finish(live)

    def _next_arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _finish(self, live: Coroutine) -> None:
        """Let go of a request whose body has ended."""
        if live.end is None:
            return
        with self._changed:
            self._live.remove(live)
            self._ending += 1
        live.request.emit(live.end)  # outside the lock: a listener may call back
        with self._changed:
            self._ending -= 1
            self._changed.notify_all()
