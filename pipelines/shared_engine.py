"""The engine that all users of one model share: the first to come opens the model, the last to
leave shuts it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from mindsd.engine import Engine
from mindsd.errors import EngineClosed, RequestError
from mindsd.request import Request


class SharedEngine:
    """One model's engine, its own or a guest's.

    Args:
        name: of the model.
        make: an engine of its own.
        open: makes the model ready for an engine; what it left half done `shut` takes back.
        shut: the model as it was.

    Attributes:
        users: how many use it now.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Engine],
        open: Callable[[Engine], None],
        shut: Callable[[], None],
    ):
        self.users = 0
        self._name, self._make, self._open, self._shut = name, make, open, shut
        self._engine: Engine | None = None
        self._guest = False  # whether the engine is somebody else's
        self._closing = False
        self._requests: WeakSet[Request] = WeakSet()
        self._lock = threading.RLock()

    def join(self, guest: Engine | None = None) -> Engine:
        """The engine to use until `leave`: the given one, else the model's own.

        Raises:
            EngineClosed: the model is being closed at this moment.
            RequestError: the model already runs on another engine. Two threads would call its
                modules at once, and some pipelines change those while they draw.
        """
        with self._lock:
            if self._closing:
                raise EngineClosed(f"{self._name} is being closed; join it when that is done")
            if self.users and guest not in (None, self._engine):
                raise RequestError(
                    f"{self._name} already runs on another engine; close its pipelines first, "
                    "or give all of them the same engine"
                )
            if self.users == 0:
                self._guest = guest is not None
                self._engine = guest or self._make()
                try:
                    self._open(self._engine)
                except BaseException:
                    self._end()
                    raise
            self.users += 1
            assert self._engine is not None
            return self._engine

    def leave(self) -> None:
        """One user less; the last one ends its requests and shuts the model."""
        with self._lock:
            self.users -= 1
            if self.users:
                return
            self._closing, engine = True, self._engine
            requests = list(self._requests)
        try:  # outside the lock: the engine's thread may be asking for it in a listener
            if engine is not None and not self._guest:
                engine.close()
            for request in requests:
                if not request.ended:
                    request.cancel()
            for request in requests:
                with suppress(Exception):  # how it ended is its own caller's business
                    request.result()
        finally:
            with self._lock:
                self._closing = False
                self._end()

    def watch(self, request: Request) -> Request:
        """A request runs on this model: it must end before the model is as it was."""
        with self._lock:
            self._requests.add(request)
        return request

    def _end(self) -> None:
        try:
            self._shut()
        finally:
            self._engine = None
