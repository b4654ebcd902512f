"""What large moves of weights leave behind is given back to the system while they go on.

A model's weights are laid out anew, and back again, one after the other. What the old ones took is
free then, but not the system's: a file's pages stay until all of the file is let go, and glibc
keeps freed blocks that lie between others. Untended, moving 2 GB took 1.3 to 2 GB more meanwhile.
"""

from __future__ import annotations

import ctypes
import sys

from mindsd.file_pages import give_back

PIECE = 512 * 2**20  # bytes that are given back together: each time takes some 50 ms


class Leavings:
    """What was left and not yet given back."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int]] = []

    def add(self, size: int, address: int = 0) -> None:
        """So many bytes were left; when they are many they are given back.

        Args:
            address: where they lie, if that may be in a file's mapping.
        """
        self._places.append((address, size))
        if sum(size for _, size in self._places) >= PIECE:
            self.give_back()

    def give_back(self) -> None:
        """Give back all that there is."""
        if known := [own for own in self._places if all(own)]:
            give_back(known)
        if any(size for _, size in self._places):
            trim()
        self._places.clear()


def trim() -> None:
    """Give the system what glibc holds and nobody uses; elsewhere nothing is done."""
    if sys.platform == "linux":
        freed = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if freed is not None:
            freed(0)
