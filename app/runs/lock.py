"""Who may write into a run's folder: one process, or one for each shard."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from mindsd.errors import OutputError, RequestError

try:
    import fcntl
except ImportError:  # no POSIX: nothing keeps two processes apart
    fcntl = None


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count`."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2/4".

        Raises:
            RequestError: it is no such text.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count) <= 1000):
            raise RequestError(f"--shard {text!r} is not I/N, with I from 1 to N, e.g. 1/2")
        return cls(int(index), int(count))

    @property
    def suffix(self) -> str:
        """Of the names of its files; none for a run in one part."""
        return "" if self.count == 1 else f"-{self.index}-of-{self.count}"


class FolderLock:
    """Held until left; the system lets go of it when the process ends, however that comes.

    Shards of one count share the folder, each alone in its part.

    Raises:
        OutputError: another process holds it.
    """

    def __init__(self, folder: Path, shard: Shard):
        self._files: list[IO[str]] = []
        try:
            self._share(folder, shard)
            if shard.count > 1:
                part = self._open(folder / f".mindsd-batch{shard.suffix}.lock")
                if not _take(part, alone=True):
                    said = f"another process draws shard {shard.index}/{shard.count} in {folder}"
                    raise OutputError(f"{said}; wait for it, or draw another shard")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files:
            file.close()

    def _share(self, folder: Path, shard: Shard) -> None:
        file = self._open(folder / ".mindsd-batch.lock")
        if _take(file, alone=True):  # the first to come says in how many parts
            file.truncate(0)
            file.write(f"{shard.count}")
            file.flush()
            if shard.count == 1 or _take(file, alone=False):
                return
        if shard.count > 1 and _take(file, alone=False):
            file.seek(0)
            parts = file.read()
            if parts == f"{shard.count}":
                return
            said = f"other processes draw {parts} shards into {folder}, not {shard.count}"
            raise OutputError(f"{said}; wait for them, or say the same number")
        said = f"another process draws into {folder}"
        raise OutputError(f"{said}; wait for it, choose another with -o, or share it with --shard")

    def _open(self, path: Path) -> IO[str]:
        try:
            self._files.append(open(path, "a+"))  # noqa: SIM115  # closed by __exit__
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror})") from None
        return self._files[-1]


def _take(file: IO[str], *, alone: bool) -> bool:
    """Lock an open file, at once or not at all."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OutputError(f"{file.name} cannot be locked ({reason}); use another disk") from None
