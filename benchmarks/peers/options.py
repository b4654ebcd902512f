"""Kinds of options that the commands beside peers take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads names with commas between them."""

    def names(text: str) -> tuple[str, ...]:
        wished = tuple(text.split(","))
        if strange := [name for name in wished if name not in known]:
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(known)}")
        return wished

    return names


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def writable(text: str) -> Path:
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.absolute().parent}")
    return path
