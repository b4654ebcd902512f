"""A place in a binary file that never passes its end and believes no length."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from mindsd.errors import ModelError

LONGEST_STRING = 32 * 2**20  # bytes; a chat template has some thousands


class Cursor:
    """Reads little-endian numbers and strings one after another.

    Every count is held against the file's size before anything of that size is made; `ModelError`
    names the file, what was read and both numbers.
    """

    def __init__(self, path: Path, stream: BinaryIO, kind: str):
        """Start at the first byte of a stream of this file; `kind` names the format in errors."""
        self.path, self.stream, self.kind = path, stream, kind
        self.size = path.stat().st_size
        self.place = 0

    def number(self, letter: str) -> Any:
        """One number of struct's type `letter`."""
        return struct.unpack("<" + letter, self.bytes(struct.calcsize("<" + letter), "a number"))[0]

    def string(self, what: str) -> str:
        """UTF-8 after its length in 8 bytes; `what` names it in errors."""
        length = self.number("Q")
        if length > LONGEST_STRING:
            raise self.broken(f"{what} claims {length} bytes, more than {LONGEST_STRING}")
        content = self.bytes(length, what)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise self.broken(f"{what} is no UTF-8") from None

    def bytes(self, count: int, what: str) -> bytes:
        """The next `count` bytes; `what` names them in errors."""
        self._take(count, what)
        found = self.stream.read(count)
        if len(found) < count:  # the file shrank since its size was asked
            raise self.broken(f"it ended within {what}")
        return found

    def skip(self, count: int, what: str) -> None:
        """Pass over the next `count` bytes."""
        self._take(count, what)
        self.stream.seek(self.place)

    def broken(self, reason: str) -> ModelError:
        """The error that says what is wrong with the file."""
        return ModelError(f"{self.path} is a broken {self.kind} file: {reason}; copy it again")

    def _take(self, count: int, what: str) -> None:
        self.place += count
        if self.place > self.size:
            raise self.broken(
                f"{what} would end at byte {self.place}, the file ends at byte {self.size}"
            )
