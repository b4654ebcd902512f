"""One batch from loading its model to the exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .batch_progress import BatchLines, BatchTally
from .interrupt import EXIT_CODE, Interrupt


def run_batch(
    model: str,
    work: Callable[[Interrupt], None],
    tally: BatchTally,
    progress: BatchLines,
    again: str = "the same command goes on from here",
    errors: str = "",
) -> int:
    """Do what is left, if anything, and tell how it went; the exit code.

    Args:
        model: its name or path, to say that it is loaded.
        work: loads it, and keeps the tally.
        again: said where a signal came.
        errors: where they are to be found, said where there are some.
    """
    if tally.left:
        with Interrupt() as interrupt:
            try:
                progress.said(f"loading {Path(model).resolve().name}")
                work(interrupt)
            except KeyboardInterrupt:  # a signal while loading
                tally.stopping = True
            finally:
                progress.__exit__()
    if tally.stopping:
        progress.said(f"cancelled: {tally}; {again}")
        return EXIT_CODE
    progress.said(f"{tally}; {errors}" if tally.failed and errors else str(tally))
    return 1 if tally.failed else 0
