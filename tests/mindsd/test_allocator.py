"""Kept memory: used again from every thread, within its bound, and given back."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from mindsd import native
from mindsd.allocator import SOURCE, counts, keep_large, why_absent

MIB = 2**20
needs_compiler = pytest.mark.skipif(why_absent() is not None, reason=str(why_absent()))


def block(mib: int) -> torch.Tensor:
    return torch.empty(mib * MIB, dtype=torch.uint8)


@needs_compiler
def test_a_freed_block_serves_the_next_tensor_on_another_thread():
    with keep_large(64 * MIB) as kept:
        place = block(8).data_ptr()
        assert counts()[0] == 8 * MIB and "8 MiB now, at most 64 MiB" in str(kept)
        found: list[int] = []
        other = threading.Thread(target=lambda: found.append(block(7).data_ptr()))
        other.start()
        other.join()
        assert found == [place]
    assert counts()[0] == 0


@needs_compiler
def test_a_block_that_is_much_too_large_is_not_used():
    with keep_large(64 * MIB):
        place = block(16).data_ptr()
        assert block(8).data_ptr() != place


@needs_compiler
def test_the_bound_holds_and_the_oldest_goes_first():
    with keep_large(20 * MIB):
        tensors = [block(8), block(9), block(10)]
        del tensors[0], tensors[0], tensors[0]
        assert counts()[0] == 19 * MIB


@needs_compiler
def test_small_tensors_are_left_to_torch_and_living_ones_outlast_the_last_user():
    with keep_large(), keep_large() as inner:
        inner.remove()
        inner.remove()
        small, large = torch.arange(100), torch.arange(MIB)
        assert counts()[0] == 0
        del inner
        grown = torch.arange(4).resize_(MIB)  # its storage asks its own allocator again
    grown.resize_(2 * MIB)
    assert small.sum() == 4950 and int(large[-1]) == MIB - 1 and grown[3] == 3
    del large, grown
    assert counts()[0] == 0 and torch.arange(2 * MIB)[-1] == 2 * MIB - 1


def test_without_a_compiler_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(native.OFF, "off")
    before = counts()
    with keep_large() as kept:
        block(8)
    assert kept.reason and "is not kept: native kernels are off" in str(kept)
    assert counts() == before and SOURCE.file.is_file()


FORKS = """
import os, threading, time, torch
from mindsd.allocator import keep_large
torch.set_num_threads(1)
keep_large(2**30)
stop = threading.Event()
def churn():
    while not stop.is_set():
        torch.empty(2**21, dtype=torch.uint8)
for _ in range(2):
    threading.Thread(target=churn).start()
for _ in range(100):
    child = os.fork()
    if not child:
        torch.empty(2**21, dtype=torch.uint8)
        os._exit(0)
    os.waitpid(child, 0)
stop.set()
"""


@needs_compiler
def test_a_forked_child_finds_the_lock_free():
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)
