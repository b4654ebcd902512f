"""Large pages are a hint: what lies there is the same with and without."""

from __future__ import annotations

import mmap

import pytest
import torch

from mindsd.large_pages import SIZE, ask_large_pages


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
