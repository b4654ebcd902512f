"""What a run tells while it works: paths on stdout, everything for people on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mindsd.request import Event

from .tally import Job, Tally

LINE_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Place:
    """Where a model was loaded to."""

    model: str
    device: str
    dtype: str


class Reporter:
    """Prints the paths of the written files and what failed, nothing else (`--quiet`)."""

    tally: Tally | None = None
    _since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        """Take down whatever was put up."""

    def loading(self, model: str) -> None:
        """Before anything heavy is imported."""
        self._since = time.perf_counter()

    def loading_seconds(self) -> float:
        """Since `loading`."""
        return time.perf_counter() - self._since

    def loaded(self, place: Place, tally: Tally) -> None:
        """The model is there; the images of `tally` are submitted next."""
        self.tally = tally

    def noted(self, text: str) -> None:
        """Something to know of all images."""

    def told(self, job: Job, event: Event) -> None:
        """An event of an image; the tally knows of it already."""

    def noticed(self, job: Job, text: str) -> None:
        """Something to know of an image that is drawn all the same."""

    def previewed(self, job: Job, step: int, path: Path) -> None:
        """A rough picture was saved."""

    def written(self, job: Job, path: Path, seconds: float) -> None:
        print(path, flush=True)

    def failed(self, job: Job, reason: str) -> None:
        seed = job.parameters.seed
        print(f"mindsd: image {job.number} (seed {seed}) failed: {reason}", file=sys.stderr)

    def ended(self, tally: Tally, seconds: float) -> None:
        """Every image is written, failed or cancelled."""
        if tally.stopping:
            told = f"cancelled: {tally.written} of {tally.images} images were written"
            print(told, file=sys.stderr)


class Lines(Reporter):
    """A plain line now and then, for logs and pipes."""

    _last = 0.0

    def loading(self, model: str) -> None:
        super().loading(model)
        self._say(f"loading {model}")

    def loaded(self, place: Place, tally: Tally) -> None:
        super().loaded(place, tally)
        self._say(describe_place(place, self.loading_seconds()))

    def noted(self, text: str) -> None:
        self._say(f"note: {text}")

    def told(self, job: Job, event: Event) -> None:
        assert self.tally is not None
        if time.perf_counter() - self._last >= LINE_EVERY:
            self._say(f"{self.tally.doing}: {describe_tally(self.tally)}")

    def noticed(self, job: Job, text: str) -> None:
        self._say(f"note on image {job.number}: {text}")

    def ended(self, tally: Tally, seconds: float) -> None:
        super().ended(tally, seconds)
        if not tally.stopping:
            self._say(describe_end(tally, seconds))

    def _say(self, line: str) -> None:
        self._last = time.perf_counter()
        print(line, file=sys.stderr, flush=True)


def describe_place(place: Place, seconds: float) -> str:
    where = f"{place.device} in {place.dtype}"
    return f"loaded {place.model} in {seconds:.1f} s; drawing on {where}"


def describe_tally(tally: Tally) -> str:
    """As in "3/8 images, 60/160 steps, 12.3 it/s, 0:08 left"."""
    parts = [f"{tally.written}/{tally.images} images"]
    if not tally.stopping:
        parts.append(f"{tally.done}/{tally.steps} steps")
    if tally.left is not None and not tally.stopping:
        parts += [f"{tally.rate:.1f} it/s", f"{describe_seconds(tally.left)} left"]
    return ", ".join(parts)


def describe_end(tally: Tally, seconds: float) -> str:
    count = f"{tally.written} of {tally.images}" if tally.failed else f"{tally.written}"
    noun = "image" if count == "1" else "images"
    return f"{count} {noun} in {seconds:.1f} s, {tally.done} steps at {tally.rate:.1f} it/s"


def describe_seconds(seconds: float) -> str:
    """As in 0:08 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
