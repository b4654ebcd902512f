"""Memory of large tensors is kept for the next ones, on a CPU.

The system takes back every large block that a tensor frees and hands out fresh pages for the next,
one page fault for each 4 KiB, each filled with zeros: a third of the time of an image's decoding.
glibc can be told to keep such blocks (mallopt), but heeds it only on the main thread for more than
64 MiB, keeps without bound, and shares them badly among threads. So torch's own allocator is
exchanged while a model runs (allocator.cpp), which needs a C++ compiler, once; without one, all
stays as it is. Results do not change. What is kept is given back when the last user leaves.
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import torch

from mindsd import native
from mindsd.native import Source, load

MOST = 2**30  # bytes kept: the tensors that a decoding of 1024 x 1024 frees between two layers
_TORCH = Path(torch.__file__).parent
SOURCE = Source(
    Path(__file__).with_name("allocator.cpp"),
    flags=(
        *("-x", "c++", "-std=c++20", "-w", f"-I{_TORCH / 'include'}", f"-L{_TORCH / 'lib'}"),
        *("-Wl,--no-as-needed", "-lc10", "-lstdc++"),
    ),
)
_lock = threading.Lock()
_users: list[Kept] = []


class Kept:
    """That large blocks are kept; made by `keep_large`. Usable as a context manager.

    Attributes:
        most: bytes that this user allows; the largest wish of all users counts.
        reason: why nothing is kept, or None.
    """

    def __init__(self, most: int, reason: str | None):
        self.most, self.reason = most, reason

    def __str__(self) -> str:
        if self.reason is not None:
            return f"memory of large tensors is not kept: {self.reason}"
        held, again, fresh = counts()
        return (
            f"memory of large tensors is kept, {held / 2**20:.0f} MiB now, at most "
            f"{self.most / 2**20:.0f} MiB; {again} tensors got kept memory, {fresh} fresh"
        )

    def remove(self) -> None:
        """Keep nothing more, once the last user says so; doing it twice does nothing."""
        with _lock:
            if self in _users:
                _users.remove(self)
                _keep()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def keep_large(most: int = MOST) -> Kept:
    """Keep the memory of tensors of 1 MiB and more when they are freed, until `remove`.

    Args:
        most: bytes, of those that nobody uses.
    """
    kept = Kept(most, why_absent())
    if kept.reason is None:
        with _lock:
            _users.append(kept)
            _keep()
    return kept


def why_absent() -> str | None:
    """Why nothing can be kept here, or None."""
    return native.why_absent(SOURCE)


def counts() -> tuple[int, int, int]:
    """Bytes kept now; how many large tensors got kept memory so far, and how many fresh."""
    found = (ctypes.c_size_t * 3)()
    library = load(SOURCE)
    if not isinstance(library, str):
        library.counts(found)
    return found[0], found[1], found[2]


def _keep() -> None:
    library = load(SOURCE)
    assert isinstance(library, ctypes.CDLL)
    library.keep(ctypes.c_size_t(max((own.most for own in _users), default=0)))
