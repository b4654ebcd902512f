"""The most memory that drawing takes at any moment.

On a GPU or NPU: what torch's allocator held, weights included. On a CPU: by how much the process
grew beyond what it held before, as the Linux kernel notes it; elsewhere nobody knows. The kernel
sums up the pages of each core from time to time, so the growth is right to some hundred KiB only.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any, Self

import torch

STATUS, MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # what the kernel reads there as: the highest so far is what is held now
MEANING = {"cpu": "growth of the process", "cuda": "held by torch", "npu": "held by torch"}


class Peak:
    """Enter, draw, leave; then `bytes` says it, or is None where nobody knows.

    Args:
        kind: of the device: cpu, cuda or npu.
    """

    def __init__(self, kind: str):
        self.bytes: int | None = None
        self._before: int | None = None
        self._accelerator: Any = None if kind == "cpu" else getattr(torch, kind)

    def __enter__(self) -> Self:
        if self._accelerator is not None:
            self._accelerator.reset_peak_memory_stats()
        elif sys.platform == "linux":
            _give_back()
            self._before = _forget_peak()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._accelerator is not None:
            self.bytes = self._accelerator.max_memory_allocated()
        elif self._before is not None:
            self.bytes = max(0, _read("VmHWM") - self._before)


def _give_back() -> None:
    """What is free already must not count as held before; of the C libraries, glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _forget_peak() -> int | None:
    """Bytes held now, from which on the kernel looks for the highest; None where it must not."""
    try:
        MARK.write_text(FORGET_PEAK)
    except OSError:
        return None
    return _read("VmRSS")


def _read(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
