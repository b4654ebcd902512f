"""Captions on stdout, a line each: the picture's path, a tab, the text."""

from __future__ import annotations

from typing import Any, Self

from .answer_file import Key
from .batch_progress import BatchLines
from .speech import CONTROLS


class CaptionLines:
    """Takes the place of an `AnswerFile` where there is none; errors go to stderr.

    Attributes:
        answered: nothing, for nothing is read.
    """

    def __init__(self, progress: BatchLines) -> None:
        self._progress = progress
        self.answered: set[Key] = set()

    def add(self, answer: dict[str, Any]) -> None:
        """Print one; line ends become blanks, and what would steer a terminal goes."""
        if "error" in answer:
            self._progress.said(f"{_name(answer['image'])}: {_plain(answer['error'])}")
            return
        self._progress.answered(f"{_name(answer['image'])}\t{_plain(answer['text'])}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """There is nothing to close."""


def _name(path: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in path)


def _plain(text: str) -> str:
    return " ".join(text.split()).translate(CONTROLS)
