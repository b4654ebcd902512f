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
        """Print one; line ends in a caption become blanks, and what would steer a terminal goes."""
        if "error" in answer:
            self._progress.said(f"{answer['image']}: {answer['error']}")
            return
        caption = " ".join(answer["text"].split()).translate(CONTROLS)
        self._progress.answered(f"{answer['image']}\t{caption}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """There is nothing to close."""
