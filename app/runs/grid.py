"""Grids: `steps=10,20 guidance=5,7` draws every prompt with each of the four."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from mindsd.errors import RequestError

from .columns import column_named, read_cell

MOST = 1000  # cells
NOT_IN = ("prompt", "n", "seed")

Cell = tuple[tuple[str, Any], ...]  # (column, value) of each axis


def parse_grid(axes: Sequence[str]) -> list[Cell]:
    """The cells, the last axis changing fastest; one empty cell without axes.

    Raises:
        RequestError: an axis cannot be read, or there are over 1000 cells.
    """
    read: list[list[tuple[str, Any]]] = []
    for axis in axes:
        read.append(_axis(axis))
        name = read[-1][0][0]
        if any(name == other[0][0] for other in read[:-1]):
            raise RequestError(f"--grid says {name} twice; put its values in one")
    cells = 1
    for axis in read:
        cells *= len(axis)
    if cells > MOST:
        raise RequestError(f"the grid has {cells} cells, over {MOST}; make it smaller")
    return list(product(*read))


def describe_cell(cell: Cell) -> str:
    """As in "steps 10, guidance 5"."""
    told = [(name, f"{value:g}" if isinstance(value, float) else value) for name, value in cell]
    return ", ".join(f"{name} {value}" for name, value in told)


def _axis(text: str) -> list[tuple[str, Any]]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        raise RequestError(f"--grid {text!r} is not NAME=VALUE,VALUE, e.g. steps=10,20")
    try:
        column = column_named(name)
        if column in NOT_IN:
            raise RequestError(f"there is no grid of {column}; rows of the file say it")
        read = [read_cell(column, value) for value in values.split(",")]
    except RequestError as error:
        raise RequestError(f"--grid {text!r}: {error}") from None
    if None in read:
        raise RequestError(f"--grid {text!r} has an empty value")
    return [(column, value) for value in dict.fromkeys(read)]
