"""How a load went: percentiles of what users waited for, failures by cause, targets met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from rich.table import Table

from .plan import Kind, Targets
from .visit import Visit

SHARES = (50, 90, 99)
KINDS: tuple[Kind, ...] = ("chat", "image")


@dataclass(frozen=True)
class Verdict:
    """Of the users of one kind.

    Attributes:
        kind: what they wanted.
        users: how many came.
        failures: how many of them got nothing, by cause.
        met: how many got what they should in time.
        times: what was waited for -> its p50, p90 and p99, seconds.
        rate: images a second, or tokens a second, over the whole load.
    """

    kind: Kind
    users: int
    failures: dict[str, int]
    met: int
    times: dict[str, tuple[float, ...]]
    rate: float

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        names = [f"p{share}" for share in SHARES]
        times = {name: dict(zip(names, own, strict=True)) for name, own in self.times.items()}
        return {**vars(self), "times": times}


def judge(visits: Sequence[Visit], targets: Targets) -> list[Verdict]:
    """A verdict for each kind of user that came."""
    took = max((own.began + own.seconds for own in visits), default=0.0)
    came = {own.arrival.kind for own in visits}
    return [_judged(kind, visits, targets, took) for kind in KINDS if kind in came]


def _judged(kind: Kind, all: Sequence[Visit], targets: Targets, took: float) -> Verdict:
    visits = [own for own in all if own.arrival.kind == kind]
    well = [own for own in visits if own.failure is None]
    waits: dict[str, list[float]] = {"whole": [own.seconds for own in well]}
    if kind == "chat":
        waits["first token"] = [own.first for own in well if own.first is not None]
        waits["between tokens"] = [gap for own in well for gap in own.between]
    made = sum(own.tokens for own in well) if kind == "chat" else len(well)
    return Verdict(
        kind,
        len(visits),
        dict(Counter(own.failure for own in visits if own.failure is not None)),
        sum(own.within(targets) for own in visits),
        {name: percentiles(own) for name, own in waits.items() if own},
        made / took if took else 0.0,
    )


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """p50, p90 and p99, linear between neighbours."""
    if len(values) == 1:
        return (values[0],) * len(SHARES)
    cuts = quantiles(values, n=100, method="inclusive")
    return tuple(cuts[share - 1] for share in SHARES)


def table(verdicts: Sequence[Verdict]) -> Table:
    """For people."""
    made = Table("users", "", "p50 s", "p90 s", "p99 s", "failed", "in time", "made a second")
    for own in verdicts:
        failed = ", ".join(f"{count}x {cause}" for cause, count in own.failures.items()) or "0"
        unit = "tokens" if own.kind == "chat" else "images"
        rest = (failed, f"{own.met / own.users:.1%}", f"{own.rate:.2f} {unit}")
        for row, (name, times) in enumerate(own.times.items()):
            head = f"{own.users} {own.kind}" if row == 0 else ""
            figures = [f"{value:.3f}" for value in times]
            made.add_row(head, name, *figures, *(rest if row == 0 else ("", "", "")))
        if not own.times:
            made.add_row(f"{own.users} {own.kind}", "", "", "", "", *rest)
    return made
