"""Large pages are a hint: what lies there is the same with and without."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from mindsd.large_pages import LINE, SIZE, ask_large_pages, untouched_zeros


def test_small_tensors_are_left_alone() -> None:
    assert not ask_large_pages(torch.empty(16))


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no such advice")
def test_large_tensors_hold_what_is_written() -> None:
    room = torch.empty(4 * SIZE, dtype=torch.uint8)
    ask_large_pages(room)  # whatever the system makes of it
    room.copy_(torch.arange(4 * SIZE) % 251)
    assert room[-1] == (4 * SIZE - 1) % 251 and room[SIZE] == SIZE % 251


def test_without_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert not ask_large_pages(torch.empty(4 * SIZE, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int8])
def test_untouched_zeros_are_zeros_like_all_others(dtype: torch.dtype) -> None:
    found = untouched_zeros((3, 5, 7), dtype)
    assert found.dtype is dtype and found.is_contiguous() and found.data_ptr() % LINE == 0
    assert torch.equal(found, torch.zeros(3, 5, 7, dtype=dtype))
    found[1] = 2
    assert found.sum() == 2 * 5 * 7 and not found[0].any() and not found[2].any()


def resident() -> int:
    """Bytes of this process that lie in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it so")
def test_untouched_zeros_take_memory_as_they_are_written_to() -> None:
    before, size = resident(), 256 * SIZE
    found = untouched_zeros((8, size // 8), torch.uint8)
    assert resident() - before < size // 16
    found[3, :1000] = 1
    assert resident() - before < size // 16
    assert found[3].sum() == 1000 and resident() - before < size // 4
