"""What is left is given back by the piece, and memory that nobody uses is the system's again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from mindsd import leavings
from mindsd.leavings import Leavings, trim

MIB = 2**20


def test_it_is_given_back_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[tuple[int, int]]] = []
    trims: list[int] = []
    monkeypatch.setattr(leavings, "give_back", lambda places: seen.append(list(places)))
    monkeypatch.setattr(leavings, "trim", lambda: trims.append(len(seen)))
    monkeypatch.setattr(leavings, "PIECE", 100)
    left = Leavings()
    for address, size in ((7, 60), (100, 30), (0, 10), (300, 5)):
        left.add(size, address)
    assert seen == [[(7, 60), (100, 30)]] and trims == [1]
    left.give_back()
    left.give_back()
    assert seen[1:] == [[(300, 5)]] and trims == [1, 2]
    left.add(0)
    left.give_back()
    assert len(seen) == len(trims) == 2


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(leavings.ctypes, "CDLL", lambda name: pytest.fail("asked a library"))
    trim()


def resident() -> int:
    """Bytes of this process's own in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it so")
def test_freed_blocks_between_others_are_given_back() -> None:
    kept = [torch.ones(16 * 1024) for _ in range(2000)]  # 64 KiB each, in the heap
    del kept[::2]
    before = resident()
    trim()
    if resident() > before - MIB:
        pytest.skip("another allocator than glibc's")
    assert resident() < before - 50 * MIB and all(own[-1] == 1 for own in kept)
