"""SIGKILL at random moments, then a resume: every image once, the bytes of an undisturbed run.

MINDSD_KILLS=40 makes it as many as the project promises; a kill takes one to six seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("MINDSD_KILLS", "6"))
ROOT = Path(__file__).parents[3]
EACH = 2 * KILLS  # images of a row: more than are drawn between the kills
PROMPTS = f"""prompt,n,steps
a red circle,{EACH},2
a blue square on {{white|black}},{EACH},3
two stars,{EACH},2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_lose_and_double_nothing(model, tmp_path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text(PROMPTS)
    where = ["--model", str(model), "--size", "32x32", "--seed", "5", "--together", "4"]

    def python(module: str, *arguments: str) -> str:
        said = [sys.executable, "-m", module, *arguments, *where]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ran = subprocess.run(said, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    told = python(
        "tests.app.runs.killer", f"{KILLS}", "1", "batch", str(prompts), "-o", str(killed)
    )
    ends = json.loads(told)
    assert ends["killed"] == KILLS and ends["drawing"] > KILLS / 3
    python("mindsd.app", "batch", str(prompts), "-o", str(killed))
    python("mindsd.app", "batch", str(prompts), "-o", str(whole))

    pictures = {file.name: file.read_bytes() for file in whole.glob("*.png")}
    assert sum(name[0].isdigit() for name in pictures) == 3 * EACH  # sheets are others
    assert {file.name: file.read_bytes() for file in killed.glob("*.png")} == pictures
    assert not list(killed.glob(".*.part"))
    entries = [json.loads(line) for line in (killed / "manifest.jsonl").open()]
    keys = [entry["key"] for entry in entries if "key" in entry]
    assert len(keys) == len(set(keys)) == 3 * EACH
