"""Keeps torch's workers with the engine: work on a thread that ends with it, and teams let go of.

OpenMP gives every thread that computes a team of workers of its own. While more workers exist than
the machine has cores, libgomp lets all of them sleep between two operations instead of spinning,
and each operation pays for their waking up: on two cores a token of a model of 135 million weights
took 29 ms instead of 18 (bfloat16), only because the main thread had loaded the model. A team ends
with its thread, or when the thread lets go of it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch

SOFT = 1  # OpenMP 5.0, omp_pause_resource_t: what a program set stays set

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


def let_go() -> None:
    """End the calling thread's team of workers; its next parallel work makes a new one.

    For a thread that may have computed and is about to wait for another that computes. Does nothing
    where the thread has no team, or torch does not run on a libgomp of its own folder.
    """
    openmp = _openmp()
    if openmp is not None:
        openmp.omp_pause_resource_all(SOFT)


@lru_cache(maxsize=1)
def _openmp() -> ctypes.PyDLL | None:
    """The library that torch has loaded. Another maker's pause may be for all threads."""
    for file in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        with suppress(OSError):  # torch was given another one before it could load this
            # PyDLL keeps Python's lock: who asks twice in a row is not overtaken by the engine
            library = ctypes.PyDLL(str(file), os.RTLD_NOLOAD | os.RTLD_LAZY)
            return library if hasattr(library, "omp_pause_resource_all") else None
    return None


if hasattr(os, "register_at_fork"):  # a forked child would wait for workers that it does not have
    os.register_at_fork(before=let_go)
