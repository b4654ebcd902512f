"""The progress of a run on a terminal, and for machines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn

from mindsd.errors import MindsdError

from ..live import Said
from ..progress import Place
from ..terminal import terminal
from .progress import LINE_EVERY, Lines, Quiet, RunTally


class Live(Lines):
    """A bar of images at the bottom of a terminal; it goes away at the end."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console
        self._tally: RunTally | None = None
        self._bar = Progress(
            SpinnerColumn(),
            Said(lambda: "reading" if self._tally is None else str(self._tally)),
            BarColumn(bar_width=None),
            console=console,
            transient=True,
            redirect_stdout=False,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def noted(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def doing(self, tally: RunTally) -> None:
        self._tally = tally
        drawn = tally.done + tally.failed + tally.part
        self._bar.update(self._task, total=tally.images, completed=drawn)

    def written(self, path: Path, key: str, seed: int, tally: RunTally) -> None:
        if sys.stdout.isatty():  # the same screen as the bar's: printed above it
            self.noted(str(path))
        else:
            super().written(path, key, seed, tally)

    def failed(self, line: int, reason: str) -> None:
        self.noted(f"mindsd: line {line}: {reason}")

    def ended(self, tally: RunTally) -> None:
        self._bar.stop()
        super().ended(tally)


class Json(Quiet):
    """One JSON object a line on stdout: loading, loaded, note, progress, image, failed, file, done
    and error, each with its "event". Times are seconds."""

    _last = 0.0

    def __exit__(self, *exc: object) -> None:
        error = exc[1] if len(exc) > 1 else None
        if isinstance(error, MindsdError):
            self._say("error", error=type(error).__name__, message=" ".join(str(error).split()))

    def loading(self, model: str) -> None:
        self._say("loading", model=model)

    def loaded(self, place: Place, tally: RunTally) -> None:
        facts = {"model": place.model, "device": place.device, "dtype": place.dtype}
        self._say("loaded", **facts, images=tally.images, skipped=tally.skipped)

    def noted(self, text: str) -> None:
        self._say("note", text=text)

    def doing(self, tally: RunTally) -> None:
        if time.perf_counter() - self._last >= LINE_EVERY / 5:
            self._last = time.perf_counter()
            facts = {"done": tally.done, "failed": tally.failed, "images": tally.images}
            self._say("progress", **facts, rate=tally.rate, left=tally.left)

    def written(self, path: Path, key: str, seed: int, tally: RunTally) -> None:
        self._say("image", path=str(path), key=key, seed=seed)

    def failed(self, line: int, reason: str) -> None:
        super().failed(line, reason)
        self._say("failed", line=line, reason=reason)

    def made(self, path: Path) -> None:
        self._say("file", path=str(path))

    def ended(self, tally: RunTally) -> None:
        super().ended(tally)
        counts = {"done": tally.done, "failed": tally.failed, "wrong": tally.wrong}
        counts |= {"images": tally.images, "skipped": tally.skipped}
        causes = dict(tally.causes.most_common())
        self._say("done", **counts, causes=causes, cancelled=tally.stopping, seconds=tally.seconds)

    def _say(self, event: str, **facts: object) -> None:
        short = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
        print(json.dumps({"event": event, **short}), flush=True)


def choose_progress(as_json: bool, quiet: bool) -> Quiet:
    """JSON lines, paths only, a bar on a terminal, or plain lines."""
    if as_json:
        return Json()
    if quiet:
        return Quiet()
    console = terminal()
    return Lines() if console is None else Live(console)
