"""What a tuning or a bench tells while it works: for people on stderr, for machines on stdout."""

from __future__ import annotations

import json
import sys
import time
from typing import Self

from rich.console import Console

from mindsd.errors import MindsdError
from mindsd.pipelines.yardstick import Measuring

from .findings import HEADINGS, Finding, describe, table
from .progress import describe_seconds
from .terminal import terminal

LINE_EVERY = 5.0  # seconds
WIDTH = 150  # columns of a table that does not go to a terminal


class Watch:
    """Keeps what was found; prints a line for each, and one now and then for what is being drawn.

    Attributes:
        findings: all so far, for the table at the end.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._began = self._last = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        """Take down whatever was put up."""

    def noted(self, text: str) -> None:
        """Something to know."""
        self._say(text)

    def measuring(self, event: Measuring) -> None:
        """A batch is being drawn."""
        if time.perf_counter() - self._last >= LINE_EVERY:
            self._say(self._doing(event))

    def found(self, finding: Finding) -> None:
        """One way is measured."""
        self.findings.append(finding)
        if finding.stage != "bench":  # there the table follows at once
            self._say(describe(finding))

    def ended(self, middle: str, *, profile: str | None = None, cancelled: bool = False) -> None:
        """Over: the table of what was found, and the path of the profile that was written.

        Args:
            middle: "mean" or "median": what the table shows of all images.
        """
        self.__exit__(None, None, None)
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console = Console(highlight=False, markup=False, width=WIDTH)
        for stage, heading in HEADINGS.items():
            own = [finding for finding in self.findings if finding.stage == stage]
            if own and heading:
                console.print(heading, style="bold")
            if own:
                console.print(table(own, middle=middle))
        if profile is not None:
            print(profile, flush=True)

    def _doing(self, event: Measuring) -> str:
        since = describe_seconds(time.perf_counter() - self._began)
        return f"{since} drawing {event.way}: {event.done} of {event.total} {event.what}"

    def _say(self, line: str) -> None:
        self._last = time.perf_counter()
        print(line, file=sys.stderr, flush=True)


class LiveWatch(Watch):
    """The same on a terminal, with one line at the bottom that says what is being drawn."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console
        self._status = console.status("loading")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._status.stop()

    def measuring(self, event: Measuring) -> None:
        self._status.update(self._doing(event))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class JsonWatch(Watch):
    """One JSON object on each line of stdout: note, measuring, found, error, done."""

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MindsdError):
            message = " ".join(str(error).split())
            self._tell("error", error=type(error).__name__, message=message)

    def noted(self, text: str) -> None:
        self._tell("note", text=text)

    def measuring(self, event: Measuring) -> None:
        self._tell(
            "measuring", way=str(event.way), what=event.what, done=event.done, total=event.total
        )

    def found(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._tell("found", **finding.as_json())

    def ended(self, middle: str, *, profile: str | None = None, cancelled: bool = False) -> None:
        self._tell("done", profile=profile, cancelled=cancelled)

    def _tell(self, event: str, **facts: object) -> None:
        print(json.dumps({"event": event, **facts}), flush=True)


def choose_watch(as_json: bool) -> Watch:
    """JSON lines, a live line on a terminal, or plain lines."""
    if as_json:
        return JsonWatch()
    console = terminal()
    return Watch() if console is None else LiveWatch(console)
