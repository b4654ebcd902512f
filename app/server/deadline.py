"""An end of time for blocking sockets, however slowly they trickle."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Deadline:
    """A context in which the sockets it watches live for so many seconds.

    Attributes:
        over: the time is up; what was read since may be cut off.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, own: socket.socket) -> None:
        """Shut this one down at the end; its file is doubled, for TLS takes the first one over."""
        self._sockets.append(own.dup())
        if self.over:
            self._end()

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        for own in self._sockets:
            own.close()

    def _end(self) -> None:
        self.over = True
        for own in list(self._sockets):
            with suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)
