"""A request: what the engine knows of it, and the events that tell its story.

    Queued -> Started -> (Notice | Step | Preview | Piece)* -> Done | Failed

A request is a handle for the thread that submitted it; the engine's thread runs its body. All else
(pipeline copy, scheduler, random numbers) lives in the body's own frames and dies with them.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mindsd.errors import Cancelled, RequestError


@dataclass(frozen=True)
class Queued:
    """Taken in; `ahead` requests wait before it."""

    ahead: int


@dataclass(frozen=True)
class Started:
    """Its body began to run, `waited` seconds after it was submitted."""

    waited: float


@dataclass(frozen=True)
class Notice:
    """Something the caller should know though it goes on: one sentence."""

    text: str


@dataclass(frozen=True)
class Step:
    """`done` of `total` denoising steps are done, `seconds` after the body started."""

    done: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Preview:
    """A rough picture (PIL, RGB, one pixel per latent cell) after `step` denoising steps."""

    step: int
    image: Any


@dataclass(frozen=True)
class Piece:
    """More of answer number `sample`: its tokens, and the text that is safe to show by now.

    Attributes:
        logprobs: of each of the tokens; None where they were not asked for.
        thinks: the answer began inside the model's thoughts.
    """

    sample: int
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[Any, ...] | None = None
    thinks: bool = False


@dataclass(frozen=True)
class Done:
    """Finished: `result` is what the body returned, `seconds` after it started."""

    result: Any
    seconds: float


@dataclass(frozen=True)
class Failed:
    """Ended without a result; `error` is `Cancelled` when the caller wanted it so."""

    error: BaseException


Event = Queued | Started | Notice | Step | Preview | Piece | Done | Failed
Body = Callable[["Request"], Any]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Need:
    """What a request takes of the machine while it is live.

    Attributes:
        rows: rows it brings to a forward (2 per image under classifier-free guidance); 0 for text,
            whose tokens have a budget of their own.
        memory: bytes of activations at its worst moment.
        priority: higher goes first, among requests that wait and calls that are ready.
        solo: its calls may share no forward, for it changes what others share; it runs in one go.
    """

    rows: int = 1
    memory: int = 0
    priority: int = 0
    solo: bool = False

    def __post_init__(self) -> None:
        if self.rows < 0 or self.memory < 0:
            raise RequestError(f"a request needs rows >= 0 and memory >= 0, got {self}")


class Request:
    """One submitted body: read its events, wait for its result, or cancel it. Thread-safe."""

    def __init__(self, body: Body, need: Need):
        self.number = next(_numbers)
        self.need = need
        self.submitted = time.perf_counter()
        self.started: float | None = None
        self.cancelled = threading.Event()
        self.wake: Callable[[], None] = lambda: None  # set by the engine: "look at me"
        self.thread: threading.Thread | None = None  # set by the engine: the one that runs bodies
        self._body: Body | None = body
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._put: Callable[[Event], None] = self._events.put
        self._lock = threading.RLock()  # a listener may ask for its own request
        self._end: Done | Failed | None = None
        self._ended = threading.Event()

    def events(self) -> Iterator[Event]:
        """Every event as it happens; the last one is `Done` or `Failed`. For one reader."""
        while True:
            with self._lock:
                if self._events.empty() and self._end is not None:
                    return
            event = self._events.get()
            yield event
            if isinstance(event, Done | Failed):
                return

    def result(self, timeout: float | None = None) -> Any:
        """What the body returned.

        Raises:
            TimeoutError: it is not finished after `timeout` seconds.
            Cancelled: it was cancelled.
            RequestError: asked on the engine's own thread, which would wait for itself.
            Exception: whatever the body raised.
        """
        if self.thread is threading.current_thread() and not self.ended:
            raise RequestError(
                "a request's body or listener cannot wait for a request of the same engine: "
                "the thread that would run it is the one that waits"
            )
        if not self._ended.wait(timeout):
            raise TimeoutError(f"request {self.number} is not finished after {timeout} s")
        if isinstance(self._end, Failed):
            raise self._end.error
        assert self._end is not None
        return self._end.result

    def cancel(self) -> None:
        """Ask the request to stop; it ends with `Cancelled` at its next suspension point."""
        self.cancelled.set()
        self.wake()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def emit(self, event: Event) -> None:
        """Tell the reader something; called in the engine's thread."""
        over = isinstance(event, Done | Failed)
        with self._lock:
            if over:
                self._end, self._body = event, None
            try:
                self._put(event)
            except BaseException:  # a listener that went away must not take the engine with it
                self._put = lambda event: None
        if over:
            self._ended.set()

    def redirect(self, put: Callable[[Event], None]) -> None:
        """Give every event, those not yet read first, to `put` instead of `events`.

        The end is told in any case, also when it was read before.
        """
        with self._lock:
            told = []
            with suppress(queue.Empty):  # another reader may be taking them, too
                while True:
                    told.append(self._events.get_nowait())
            end, self._put = self._end, put
            for event in told if end is None or end in told else [*told, end]:
                put(event)

    def run(self) -> Any:
        """Run the body; called once, by the engine, inside the request's own greenlet."""
        assert self._body is not None and self.started is None
        self.started = time.perf_counter()
        self.emit(Started(self.started - self.submitted))
        self.stop_if_cancelled()
        return self._body(self)

    def seconds(self) -> float:
        """Seconds since the body started (0 before that)."""
        return 0.0 if self.started is None else time.perf_counter() - self.started

    def stop_if_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled(f"request {self.number} was cancelled")


def follow(requests: Sequence[Request]) -> Iterator[tuple[Request, Event]]:
    """The events of several requests as they happen, until each has ended."""
    told: queue.SimpleQueue[tuple[Request, Event]] = queue.SimpleQueue()
    for request in requests:
        request.redirect(lambda event, request=request: told.put((request, event)))
    left = len(requests)
    while left:
        request, event = told.get()
        left -= isinstance(event, Done | Failed)
        yield request, event
