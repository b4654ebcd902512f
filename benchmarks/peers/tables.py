"""Markdown tables of medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .job import Measured

Results = dict[str, list[Measured]]  # by way, one for each round
TIMED = (
    "way",
    "s/image",
    "to plain",
    "CPU s",
    "to plain",
    "whole steps",
    "s/whole step",
    "s/other step",
    "kept MiB",
    "at 16 bits",
)
KEPT = ("way", "kept MiB", "at 16 bits")


def timed(results: Results, plain: str) -> str:
    """How long images take, to the plain ones of the same rounds."""
    rows = [
        [
            name,
            spread(seconds(own)),
            f"{speedup(seconds(results[plain]), seconds(own)):.2f}x",
            f"{statistics.median(cpu(own)):.2f}",
            f"{speedup(cpu(results[plain]), cpu(own)):.2f}x",
            steps_run(own),
            _median(step_times(own, "1")),
            _median(step_times(own, "0")),
            *_kept(own),
        ]
        for name, own in results.items()
    ]
    return markdown(TIMED, rows)


def kept(results: Results) -> str:
    """How much memory the tools keep between steps."""
    return markdown(KEPT, [[name, *_kept(own)] for name, own in results.items()])


def seconds(own: Sequence[Measured]) -> list[float]:
    return [one.seconds for one in own]


def cpu(own: Sequence[Measured]) -> list[float]:
    return [one.cpu for one in own]


def spread(values: Sequence[float]) -> str:
    """The median, and from the least to the most where there are several."""
    median = f"{statistics.median(values):.2f}"
    return f"{median} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else median


def speedup(plain: Sequence[float], own: Sequence[float]) -> float:
    """Median over the rounds of the plain time by the own time in the same round."""
    return statistics.median(before / after for before, after in zip(plain, own, strict=True))


def step_times(own: Sequence[Measured], sign: str) -> list[float]:
    """Seconds of all whole ("1") or all other ("0") steps of all rounds."""
    return [
        took
        for one in own
        for took, whole in zip(one.steps, one.whole, strict=True)
        if whole == sign
    ]


def steps_run(own: Sequence[Measured]) -> str:
    """How many steps ran whole, and which; rounds that differ are all told."""
    masks = dict.fromkeys(one.whole for one in own)
    return ", ".join(f"{mask.count('1')} of {len(mask)} ({mask})" for mask in masks)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f}" if values else "-"


def _kept(own: Sequence[Measured]) -> list[str]:
    return [f"{size / 2**20:.1f}" for size in (own[-1].kept, own[-1].kept16)]
