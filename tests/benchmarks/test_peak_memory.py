"""The most memory of a process: both ways are really run, with a model of few weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "peak_memory.py"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it so")
def test_both_ways_are_measured_and_told(tmp_path: Path) -> None:
    options = ["--tiny", "--size", "64", "--steps", "1", "--threads", "1"]
    files = ["--folder", str(tmp_path / "model"), "--json", str(tmp_path / "a.json")]
    command = [sys.executable, str(FILE), *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model_index.json").is_file()
    report = json.loads((tmp_path / "a.json").read_text())
    assert list(report["ways"]) == ["diffusers", "mindsd"]
    for [run] in report["ways"].values():
        imports, loading, drawing = run["stages"]
        assert 0 < imports <= loading <= drawing == run["VmHWM"]
        assert 0 < run["RssAnon"] <= run["VmHWM"]
    assert "diffusers | " in done.stdout and "1.00x" in done.stdout


def test_an_unknown_way_is_refused() -> None:
    command = [sys.executable, str(FILE), "--ways", "songs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "invalid choice: 'songs'" in done.stderr
