"""One thing that a project is asked to compute on the NPU, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Way = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        project: with its version.
        asked: what is computed.
        theirs: how the project does it: a tensor, or words about what was seen.
        right: the same on the CPU by plain torch; None where `theirs` gives words.
        known: where it was reported, or "".
        ours: how mindsd does it: a tensor, or words. None is an empty cell.
    """

    project: str
    asked: str
    theirs: Way
    right: Way | None = None
    known: str = ""
    ours: Way | None = None


def relative(got: Tensor, want: Tensor) -> float:
    """|got - want| / |want| over all values, in float64."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    return float((got - want).norm() / want.norm())


def outcome(way: Way | None, right: Way | None) -> str:
    """What came of one way: its relative error, its words, or its exception."""
    if way is None:
        return ""
    try:
        result = way()
    except Exception as error:  # whatever it is, it is what a caller would see
        lines = (line.strip() for line in str(error).splitlines())
        return f"{type(error).__name__}: {next(filter(None, lines), '')[:90]}"
    if not isinstance(result, Tensor):
        return str(result)
    assert right is not None
    return f"relative error {relative(result, right()):.1e}"


def row(case: Case) -> str:
    """The case in Markdown."""
    theirs, ours = outcome(case.theirs, case.right), outcome(case.ours, case.right)
    cells = (case.project, case.asked, theirs, case.known, ours)
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


HEAD = """\
| project | asked | seen | reported | mindsd |
| --- | --- | --- | --- | --- |"""
