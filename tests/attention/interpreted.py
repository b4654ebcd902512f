"""Runs a file of tests again where Triton's interpreter stands for a GPU.

It is chosen when Triton is imported, for a whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

GPU, INTERPRETED = torch.cuda.is_available(), os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if GPU else "cpu"
runs = pytest.mark.skipif(not (GPU or INTERPRETED), reason="run by the last test of its file")
once = pytest.mark.skipif(GPU or INTERPRETED, reason="the tests above ran here")


def run_again(file: str) -> None:
    """All tests of a file, in a process of their own."""
    more = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, env=more, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
