"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Self

EXIT_CODE = 130  # 128 + SIGINT, as shells say it
SHOW_CURSOR = "\x1b[?25h"  # a live display hides it


class Interrupt:
    """Listens while entered. `requested` stays true after the first signal, `signal` says which.

    Until `on_signal` is given, the first signal raises KeyboardInterrupt where the main thread is;
    from then on it calls that function instead, so that work in hand ends where it can.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal: int | None = None
        self.on_signal: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt when a signal came, even if a library swallowed the first one."""
        if self.requested:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            _end()
        self.requested, self.signal = True, number
        if self.on_signal is None:
            raise KeyboardInterrupt
        self.on_signal()


def _end() -> NoReturn:
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), f"{SHOW_CURSOR}\n".encode())
    os._exit(EXIT_CODE)
