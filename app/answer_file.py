"""The file of a batch's answers: a JSON object on each line, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from mindsd.errors import OutputError

from .prompt_lines import Key

STARTS = (b'{"id": ', b'{"line": ')  # of every line


class AnswerFile:
    """Adds to the answers that a file holds already.

    A last line that was cut in half, by a kill or a full disk, is dropped.

    Attributes:
        answered: keys of the lines that have an answer or an error.

    Raises:
        OutputError: it cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
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
        """Write one answer, whose first entry is its id or line.

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
                key = _key_of(raw)
                if key is not None and raw.endswith(b"\n"):
                    self.answered.add(key)
                    whole += len(raw)
                elif raw.endswith(b"\n") or not _is_ours(raw):
                    said = f"line {number} of --output {self._path} is no answer of this command"
                    raise OutputError(f"{said}; choose another file")
                else:
                    cut = raw
        if cut:
            self._mend(whole, _key_of(cut))

    def _mend(self, whole: int, key: Key | None) -> None:
        """End the last line, or drop it where it was cut before its end."""
        if key is None:
            self._file.truncate(whole)
            return
        self.answered.add(key)
        self._file.write(b"\n")


def _is_ours(cut: bytes) -> bool:
    """Whether it may be the beginning of a line that was cut: nothing else is ever dropped."""
    return any(cut.startswith(start) or start.startswith(cut) for start in STARTS)


def _key_of(raw: bytes) -> Key | None:
    """What an answer is known by; None where it is none."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    for name in ("id", "line"):
        if isinstance(told, dict) and isinstance(told.get(name), str | int):
            return name, told[name]
    return None
