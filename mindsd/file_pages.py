"""Files that lie in this process's memory, as weights do that were mapped instead of read.

Whoever reads such a weight has its pages counted as his until the whole file is let go, though he
may long have a copy: a model whose weights are laid out anew, one after the other, would at the end
have them twice. Pages that are as the file has them can be given back at once; who reads them again
gets them from the file again, which the system still has in memory.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MAPS = Path("/proc/self/maps")  # quick to read
SMAPS = Path("/proc/self/smaps")  # and this looks at every page: 50 ms with some GB
WRITTEN = ("Anonymous:", "Swap:")  # where a private mapping's pages went that were written to


@dataclass
class Mapped:
    """A stretch of memory that shows a file.

    Attributes:
        first, stop: its first address, and the first behind it.
        clean: every byte of it is as the file has it.
    """

    first: int
    stop: int
    clean: bool = True


def mapped_files(source: Path) -> list[Mapped]:
    """All that there are now; none where the system does not tell them as Linux does.

    Args:
        source: `SMAPS`, or `MAPS`, which does not tell what is clean.
    """
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return []
    found: list[Mapped] = []
    in_file = False
    for fields in map(str.split, lines):
        if not fields[0].endswith(":"):  # first-stop, rights, offset, device, inode, path
            in_file = fields[4] != "0"
            if in_file:
                first, stop = (int(place, 16) for place in fields[0].split("-"))
                found.append(Mapped(first, stop))
        elif in_file and fields[0] in WRITTEN and fields[1] != "0":
            found[-1].clean = False
    return found


def give_back(ranges: Iterable[tuple[int, int]]) -> None:
    """Give back the whole pages of these ranges (address, bytes) that are as a file has them."""
    advice, page = getattr(mmap, "MADV_DONTNEED", None), mmap.PAGESIZE
    whole = [
        (-(-address // page) * page, (address + size) // page * page) for address, size in ranges
    ]
    if advice is None or not _within(whole, mapped_files(MAPS)):
        return
    madvise = ctypes.CDLL(None).madvise
    for first, stop in _within(whole, [own for own in mapped_files(SMAPS) if own.clean]):
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(stop - first), advice)


def _within(pages: list[tuple[int, int]], files: list[Mapped]) -> list[tuple[int, int]]:
    """Those (first address, the one behind) that hold something and lie in one of the files."""
    return [
        (first, stop)
        for first, stop in pages
        if first < stop and any(own.first <= first and stop <= own.stop for own in files)
    ]
