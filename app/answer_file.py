"""The file of a batch's answers: a JSON object on each line, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mindsd.errors import OutputError

Key = tuple[str, str | int]


@dataclass(frozen=True)
class Form:
    """How a command's answers look.

    Attributes:
        starts: the bytes that a line may begin with.
        key: what a line is known by; None where it is no answer of the command.
        retries: whether what has an error is tried again.
    """

    starts: tuple[bytes, ...]
    key: Callable[[dict[str, Any]], Key | None]
    retries: bool = False


class AnswerFile:
    """Adds to the answers that a file holds already.

    A last line that was cut in half, by a kill or a full disk, is dropped.

    Args:
        form: of its lines.

    Attributes:
        answered: keys of what need not be done again.

    Raises:
        OutputError: it cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path, form: Form) -> None:
        self._path = path
        self._form = form
        self.answered: set[Key] = set()
        try:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # closed by __exit__
        except OSError as error:
            said = f"--output {path} cannot be written ({error.strerror})"
            raise OutputError(f"{said}; choose another") from None
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def add(self, answer: dict[str, Any]) -> None:
        """Write one answer of the form.

        Raises:
            OutputError: the disk is full, or the file went away.
        """
        left = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def _read(self) -> None:
        whole, cut = 0, b""
        with open(self._path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.endswith(b"\n") and self._take(raw):
                    whole += len(raw)
                elif raw.endswith(b"\n") or not self._may_be_ours(raw):
                    said = f"line {number} of --output {self._path} is no answer of this command"
                    raise OutputError(f"{said}; choose another file")
                else:
                    cut = raw
        if cut:
            self._mend(whole, cut)

    def _take(self, raw: bytes) -> bool:
        """Note what a line answers; whether it is one of the command's."""
        told = _object(raw)
        key = None if told is None else self._form.key(told)
        if told is None or key is None:
            return False
        if not (self._form.retries and "error" in told):
            self.answered.add(key)
        return True

    def _mend(self, whole: int, cut: bytes) -> None:
        """End the last line, or drop it where it was cut before its end."""
        if self._take(cut):
            self._file.write(b"\n")
        else:
            self._file.truncate(whole)

    def _may_be_ours(self, cut: bytes) -> bool:
        """Whether it may be the beginning of a line that was cut: nothing else is ever dropped."""
        return any(cut.startswith(start) or start.startswith(cut) for start in self._form.starts)


def _object(raw: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None where it is none."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
