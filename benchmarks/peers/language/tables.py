"""Markdown tables of medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ..tables import markdown
from .job import Measured
from .turns import Results
from .ways import Way

PREFILL = "prefill"


def speeds(results: Results, ways: Sequence[Way], expected: Sequence[int]) -> str:
    """Tokens/s, least and most in brackets, and how long greedy text is as float32's."""
    columns = _columns(results)
    heads = ["way", *(_head(column) for column in columns), "greedy as float32"]
    rows = [
        [
            way.title,
            *(spread(numbers(results.measured[way.name], column)) for column in columns),
            alike([one.greedy for one in results.measured[way.name]], expected),
        ]
        for way in ways
        if way.name in results.measured
    ]
    return markdown(heads, rows)


def ratios(results: Results, ways: Sequence[Way]) -> str:
    """How much faster than the first way, in the same rounds."""
    columns = _columns(results)
    shown = [way for way in ways if way.name in results.measured]
    first = results.measured[shown[0].name]

    def ratio(own: Sequence[Measured], column: str) -> str:
        return f"{faster(numbers(first, column), numbers(own, column)):.2f}x"

    rows = [
        [way.title, *(ratio(results.measured[way.name], column) for column in columns)]
        for way in shown
    ]
    return markdown([f"to {shown[0].title}", *map(_head, columns)], rows)


def numbers(own: Sequence[Measured], column: str) -> list[float]:
    return [one.prefill if column == PREFILL else one.decode[column] for one in own]


def spread(values: Sequence[float]) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    digits = 1 if middle < 100 else 0
    return f"{middle:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"


def faster(first: Sequence[float], own: Sequence[float]) -> float:
    """Median over the rounds of the own speed by the first way's in the same round."""
    return statistics.median(after / before for before, after in zip(first, own, strict=True))


def alike(said: Sequence[Sequence[int]], expected: Sequence[int]) -> str:
    """How many first tokens are as expected, in the round where they are fewest."""
    number = min(_same(own, expected) for own in said)
    return f"all {len(expected)}" if number == len(expected) else f"{number} of {len(expected)}"


def _same(own: Sequence[int], expected: Sequence[int]) -> int:
    pairs = zip(own, expected, strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(expected))


def _columns(results: Results) -> list[str]:
    """Batch sizes, then the prefill."""
    return [*next(iter(results.measured.values()))[0].decode, PREFILL]


def _head(column: str) -> str:
    return column if column == PREFILL else f"decode, batch {column}"
