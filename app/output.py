"""The folder that pictures go to: numbered files, whole or not there, never overwritten."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path

from mindsd.errors import OutputError

NUMBERED = re.compile(r"([0-9]+)\.(png|jpg|webp)")
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # FAT and some network disks


class OutputFolder:
    """A folder that was seen to be writable. Two processes may write into one.

    Args:
        option: of the command line, that chooses the folder.

    Raises:
        OutputError: it cannot be made or written.
    """

    def __init__(self, path: str | Path, option: str = "-o"):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(b"").unlink()
            taken = [
                int(match[1]) for name in os.listdir(path) if (match := NUMBERED.fullmatch(name))
            ]
        except OSError as error:
            said = f"output folder {self.path} cannot be written ({error.strerror})"
            raise OutputError(f"{said}; choose another with {option}") from None
        self._next = max(taken, default=0) + 1

    def add(self, content: bytes, ending: str = "png") -> Path:
        """Write a file under the next free number: 0001.png, 0002.png, ...

        Raises:
            OutputError: the disk is full, or the folder went away.
        """
        return self._move(content, lambda written: self._claim(written, ending))

    def put(self, name: str, content: bytes) -> Path:
        """Write a file of this name in place of the one before.

        Raises:
            OutputError: the disk is full, or the folder went away.
        """

        def over(written: Path) -> Path:
            return written.replace(self.path / name)

        return self._move(content, over)

    def _move(self, content: bytes, place: Callable[[Path], Path]) -> Path:
        try:
            written = self._write(content)
            try:
                return place(written)
            finally:
                written.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror})") from error

    def _write(self, content: bytes) -> Path:
        """The content whole in a file of an unlikely name, or no file."""
        file = self.path / f".mindsd-{uuid.uuid4().hex}.part"
        try:
            with open(file, "xb") as stream:
                stream.write(content)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        return file

    def _claim(self, written: Path, ending: str) -> Path:
        while True:
            file = self.path / f"{self._next:04d}.{ending}"
            self._next += 1
            try:
                _link(written, file)
                return file
            except FileExistsError:
                continue


def _link(written: Path, file: Path) -> None:
    """Give a whole file its name in one step that fails when the name is taken."""
    try:
        os.link(written, file)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        written.replace(file)
