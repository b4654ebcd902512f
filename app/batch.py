"""A batch through the engine: many requests in flight, each answer kept when it is done."""

from __future__ import annotations

import time
from collections.abc import Iterable
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from mindsd.errors import Cancelled, EngineClosed
from mindsd.request import Done, Event, Failed, Notice, Piece, Request

from .batch_progress import BatchLines, BatchTally
from .error_line import one_line
from .interrupt import Interrupt

Item = TypeVar("Item")
Asked = TypeVar("Asked", contravariant=True)


class Work(Protocol[Asked]):
    """What is done with each item of a batch.

    Attributes:
        in_flight: most requests at a time: more than any forward takes, few enough to hold in
            memory.
    """

    @property
    def in_flight(self) -> int: ...

    def submit(self, item: Asked, /) -> Request:
        """Ask for its answer; whatever it raises is the reason why this item failed."""
        ...

    def done(self, item: Asked, result: Any, /) -> None:
        """Keep its answer."""
        ...

    def failed(self, item: Asked, reason: str, /) -> None:
        """Keep why it has none."""
        ...


class Batch(Generic[Item]):
    """One batch.

    Args:
        tally: kept up to date while it runs.
    """

    def __init__(self, work: Work[Item], tally: BatchTally, progress: BatchLines) -> None:
        self._work = work
        self._tally = tally
        self._progress = progress
        self._told: SimpleQueue[tuple[Request, Event]] = SimpleQueue()
        self._live: dict[Request, Item] = {}
        self._noted: set[str] = set()

    def run(self, items: Iterable[Item], interrupt: Interrupt) -> None:
        """Do all; a signal cancels what is not finished yet.

        Raises:
            OutputError: the disk is full.
            EngineClosed: the engine broke.
        """

        def stop() -> None:
            self._tally.stopping = True
            for request in list(self._live):
                request.cancel()

        interrupt.on_signal = stop
        self._tally.begun = time.perf_counter()
        for item in items:
            while len(self._live) >= self._work.in_flight:
                self._take(*self._told.get())
            if self._tally.stopping:
                break
            self._submit(item)
        if self._tally.stopping:  # the signal may have come before the last one was noted
            stop()
        while self._live:
            self._take(*self._told.get())

    def _submit(self, item: Item) -> None:
        try:
            request = self._work.submit(item)
        except EngineClosed:
            raise
        except Exception as error:  # of an item, whatever it is, the others know nothing
            self._failed(item, error)
            return
        self._live[request] = item
        request.redirect(lambda event: self._told.put((request, event)))

    def _take(self, request: Request, event: Event) -> None:
        if isinstance(event, Piece):
            self._tally.tokens += len(event.tokens)
        elif isinstance(event, Notice) and event.text not in self._noted:
            self._noted.add(event.text)
            self._progress.said(f"note: {event.text}")
        elif isinstance(event, Done):
            self._work.done(self._live.pop(request), event.result)
            self._tally.done += 1
        elif isinstance(event, Failed):
            item = self._live.pop(request)
            if not isinstance(event.error, Cancelled):
                self._failed(item, event.error)
        self._progress.doing(self._tally)

    def _failed(self, item: Item, error: BaseException) -> None:
        self._work.failed(item, one_line(error))
        self._tally.failed += 1
