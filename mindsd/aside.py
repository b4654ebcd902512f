"""Runs a function on a thread that ends with it, so that torch's workers stay with the engine.

OpenMP gives every thread that computes a team of workers of its own. While more workers exist than
the machine has cores, libgomp lets all of them sleep between two operations instead of spinning,
and each operation pays for their waking up: on two cores a token of a model of 135 million weights
took 29 ms instead of 18 (bfloat16), only because the main thread had loaded the model. A team ends
with its thread.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def aside(function: Callable[[], T]) -> T:
    """What `function` returns, or raises; Ctrl-C stops it between two lines of its Python."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="aside", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:  # an interrupt; torch would abort the program under a running thread
        _interrupt(thread)
        thread.join()
        raise
    if failed:
        raise failed[0]
    return found[0]


def _interrupt(thread: threading.Thread) -> None:
    """Raise in another thread, at its next line of Python."""
    assert thread.ident is not None
    exception = ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), exception)
