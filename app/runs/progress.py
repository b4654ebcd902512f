"""What a run of many images tells: paths on stdout, all else on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..progress import Place, describe_seconds

LINE_EVERY = 5.0  # seconds


@dataclass(eq=False)
class RunTally:
    """How far a run is.

    Attributes:
        images: to draw in this run.
        skipped: that were there before.
        done, failed: images since.
        wrong: rows that ask for nothing that can be drawn.
        part: of an image more, drawn of the present company.
        causes: how often each reason was why.
        begun: when the first was begun, as `time.perf_counter` tells it.
        stopping: a signal came.
    """

    images: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    wrong: int = 0
    part: float = 0.0
    causes: Counter[str] = field(default_factory=Counter)
    begun: float | None = None
    stopping: bool = False

    def start(self) -> None:
        """An image is begun."""
        self.begun = self.begun or time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the first was begun."""
        return 0.0 if self.begun is None else time.perf_counter() - self.begun

    @property
    def rate(self) -> float:
        """Images in a second, begun ones by their share."""
        return (self.done + self.part) / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the last at this rate; None before the first step."""
        todo = self.images - self.done - self.failed - self.part
        return todo / self.rate if self.rate else None

    def __str__(self) -> str:
        """As in "12/64 images, 1 failed, 3.2 images/s, 0:16 left"."""
        parts = [f"{self.done}/{self.images} images"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.left is not None:
            parts.append(f"{self.rate:.2f} images/s")
            if not self.stopping:
                parts.append(f"{describe_seconds(self.left)} left")
        return ", ".join(parts)


class Quiet:
    """The paths of the pictures and what failed (`--quiet`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Take down whatever was put up."""

    def loading(self, model: str) -> None:
        """A model is loaded now."""

    def loaded(self, place: Place, tally: RunTally) -> None:
        """It is there."""

    def noted(self, text: str) -> None:
        """Something to know."""

    def doing(self, tally: RunTally) -> None:
        """It went on."""

    def written(self, path: Path, key: str, seed: int, tally: RunTally) -> None:
        print(path, flush=True)

    def failed(self, line: int, reason: str) -> None:
        print(f"mindsd: line {line}: {reason}", file=sys.stderr)

    def made(self, path: Path) -> None:
        """A report, a sheet or a grid was written."""

    def ended(self, tally: RunTally) -> None:
        """All are written, failed or cancelled."""
        if tally.stopping:
            told = f"cancelled: {tally.done} of {tally.images} images were written"
            print(f"{told}; the same command goes on from here", file=sys.stderr)


class Lines(Quiet):
    """A plain line now and then, for logs and pipes."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def loading(self, model: str) -> None:
        self.noted(f"loading {model}")

    def loaded(self, place: Place, tally: RunTally) -> None:
        self.noted(f"drawing with {place.model} on {place.device} in {place.dtype}")

    def noted(self, text: str) -> None:
        self._last = time.perf_counter()
        print(text, file=sys.stderr, flush=True)

    def doing(self, tally: RunTally) -> None:
        if time.perf_counter() - self._last >= LINE_EVERY:
            self.noted(str(tally))

    def made(self, path: Path) -> None:
        self.noted(f"wrote {path}")

    def ended(self, tally: RunTally) -> None:
        for reason, times in tally.causes.most_common():
            if times > 1:  # each was told by its line
                self.noted(f"{times} x {reason}")
        super().ended(tally)
        if not tally.stopping:
            self.noted(describe_run(tally))


def describe_run(tally: RunTally) -> str:
    """As in "12 images in 3.8 s (3.16 images/s), 1 failed, 2 rows are wrong, 40 were there"."""
    noun = "image" if tally.done == 1 else "images"
    parts = [f"{tally.done} {noun} in {tally.seconds:.1f} s"]
    if tally.done:
        parts[0] += f" ({tally.rate:.2f} images/s)"
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.wrong:
        parts.append(f"{tally.wrong} {'row is' if tally.wrong == 1 else 'rows are'} wrong")
    if tally.skipped:
        parts.append(f"{tally.skipped} were there")
    return ", ".join(parts)
