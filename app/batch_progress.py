"""What a batch of prompts tells while it works, on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from .progress import describe_seconds
from .terminal import terminal

LINE_EVERY, DRAWN_EVERY = 5.0, 0.1  # seconds


@dataclass(eq=False)
class BatchTally:
    """How far a batch is.

    Attributes:
        left: lines to do when it began.
        skipped: lines that were done before.
        done, failed: lines done since.
        tokens: drawn.
        begun: time of the first submission, as `time.perf_counter` tells it.
        stopping: a signal came.
    """

    left: int
    skipped: int
    done: int = 0
    failed: int = 0
    tokens: int = 0
    begun: float | None = None
    stopping: bool = False

    @property
    def rate(self) -> float:
        """Tokens drawn in a second, of all lines together."""
        seconds = 0.0 if self.begun is None else time.perf_counter() - self.begun
        return self.tokens / seconds if seconds else 0.0

    def __str__(self) -> str:
        """As in "12 done, 1 failed, 3 skipped, 8 to do, 45.2 tokens/s"."""
        parts = [f"{self.done} done", f"{self.failed} failed", f"{self.skipped} skipped"]
        if todo := self.left - self.done - self.failed:
            parts.append(f"{todo} to do")
        return ", ".join([*parts, f"{self.rate:.1f} tokens/s"])


class BatchLines:
    """A plain line now and then, for logs and pipes."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Take down whatever was put up."""

    def said(self, text: str) -> None:
        """Something to know."""
        self._last = time.perf_counter()
        print(text, file=sys.stderr, flush=True)

    def answered(self, line: str) -> None:
        """An answer, for stdout."""
        print(line, flush=True)

    def doing(self, tally: BatchTally) -> None:
        """It went on."""
        if time.perf_counter() - self._last >= LINE_EVERY:
            self.said(self._line(tally))

    def _line(self, tally: BatchTally) -> str:
        return f"{describe_seconds(time.perf_counter() - self._began)} {tally}"


class LiveBatch(BatchLines):
    """One line at the bottom of a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._spinner = Spinner("dots", "loading", style="status.spinner")
        self._live = Live(self._spinner, console=console, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def said(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def answered(self, line: str) -> None:
        if sys.stdout.isatty():  # the same screen as the live line's: printed above it
            self.said(line)
        else:
            super().answered(line)

    def doing(self, tally: BatchTally) -> None:
        if time.perf_counter() - self._last >= DRAWN_EVERY:
            self._last = time.perf_counter()
            self._spinner.update(text=self._line(tally))


def choose_batch_progress() -> BatchLines:
    """A live line on a terminal, or plain lines."""
    console = terminal()
    return BatchLines() if console is None else LiveBatch(console)
