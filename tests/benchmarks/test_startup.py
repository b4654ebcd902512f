"""Start-up: one command is really run, and what Python tells of imports is read."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "startup.py"


@pytest.fixture(scope="module")
def startup():
    spec = importlib.util.spec_from_file_location("startup", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["startup"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["startup"]


def test_a_command_is_run_and_told(tmp_path):
    options = ["--commands", "help", "--imports", "help", "--rounds", "1"]
    files = ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    command = [sys.executable, str(FILE), *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    [run] = report["runs"]["help"]
    assert run["seconds"] > 0 and run["worked"] > 0 and run["memory"] > 1 and not report["cold"]
    names = [part["name"] for part in report["imports"]["help"]]
    assert "mindsd" in names and "typer, rich" in names and "torch" not in names
    assert (tmp_path / "a.md").read_text() == done.stdout
    assert "imports of help" in done.stdout and "\nall | " in done.stdout


def test_a_process_that_fails_is_no_measurement(startup, tmp_path):
    with pytest.raises(RuntimeError, match="ended with 3"):
        startup.run(("-c", "raise SystemExit(3)"), str(tmp_path))


def test_imports_are_told_to_the_package_whose_file_ran(startup):
    told = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     _io
a warning that somebody printed
import time:      1500 |       1600 |   torch.nn
import time:      2500 |       4100 | torch
import time:       300 |        300 | rich.console
import time:       200 |        200 | typer
"""
    found = [(own.name, own.modules, own.ms) for own in startup.parts(told)]
    assert found == [("torch", 2, 4.0), ("typer, rich", 2, 0.5), ("Python's own", 1, 0.1)]


def test_small_parts_are_told_together_and_nothing_is_lost(startup):
    found = [startup.asdict(startup.Part(*own)) for own in (("a", 3, 990.0), ("b", 2, 9.0))]
    *_, large, others, whole = startup._table(found)
    assert (large, others) == ("a | 3 | 990 | 99%", "others | 2 | 9 | 1%")
    assert whole == "all | 5 | 999 | 100%"
