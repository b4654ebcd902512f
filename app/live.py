"""The live display of a terminal: one bar for all images, redrawn ten times a second."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.table import Column
from rich.text import Text

from mindsd.request import Event

from .progress import (
    Place,
    Reporter,
    describe_end,
    describe_place,
    describe_seconds,
    describe_tally,
)
from .tally import Job, Tally


class Said(ProgressColumn):
    """Whatever a function says at the moment of drawing."""

    def __init__(self, say: Callable[[], str]):
        super().__init__(Column(no_wrap=True))
        self._say = say

    def render(self, task: Task) -> Text:
        return Text(self._say(), no_wrap=True, overflow="ellipsis")


class Live(Reporter):
    """A spinner while the model loads, then a bar of steps; it goes away at the end."""

    def __init__(self, console: Console):
        self._console = console
        self._model = ""
        self._bar = Progress(
            SpinnerColumn(),
            Said(self._doing),
            BarColumn(bar_width=None),
            Said(self._numbers),
            console=console,
            transient=True,
            redirect_stdout=False,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._bar.stop()

    def loading(self, model: str) -> None:
        super().loading(model)
        self._model = model
        self._bar.start()

    def loaded(self, place: Place, tally: Tally) -> None:
        super().loaded(place, tally)
        self._say(describe_place(place, self.loading_seconds()))
        self._bar.update(self._task, total=tally.steps, completed=0)

    def noted(self, text: str) -> None:
        self._say(f"note: {text}")

    def told(self, job: Job, event: Event) -> None:
        assert self.tally is not None
        self._bar.update(self._task, total=self.tally.steps, completed=self.tally.done)

    def noticed(self, job: Job, text: str) -> None:
        self._say(f"note on image {job.number}: {text}")

    def written(self, job: Job, path: Path, seconds: float) -> None:
        if sys.stdout.isatty():  # the same screen as the bar's: printed above it
            self._say(str(path))
        else:
            super().written(job, path, seconds)

    def ended(self, tally: Tally, seconds: float) -> None:
        self._bar.stop()
        super().ended(tally, seconds)
        if not tally.stopping:
            self._say(describe_end(tally, seconds))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _doing(self) -> str:
        return self.tally.doing if self.tally else f"loading {self._model}"

    def _numbers(self) -> str:
        if self.tally is None:
            return describe_seconds(self.loading_seconds())
        return describe_tally(self.tally)
