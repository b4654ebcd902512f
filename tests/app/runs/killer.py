"""Kills `mindsd batch` at random moments, many times: a process that has everything imported forks
a child for each run, which costs nothing where no other thread was started yet.

    python -m tests.app.runs.killer KILLS CHANCE ARGUMENT...

prints how the children ended, as JSON: {"killed": 38, "ended": 2, "drawing": 21}.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    kills, chance, *arguments = sys.argv[1:]
    from mindsd.app.cli import main as mindsd
    from mindsd.app.libraries import heavy_imports

    with heavy_imports():
        from mindsd.app.runs import drawing_run

    assert drawing_run and len(os.listdir("/proc/self/task")) == 1, "fork needs a single thread"
    manifest = Path(arguments[arguments.index("-o") + 1]) / "manifest.jsonl"
    when = random.Random(int(chance))
    ends = {"killed": 0, "ended": 0, "drawing": 0}
    while ends["killed"] < int(kills) and not ends["ended"]:
        before = lines(manifest)
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            os._exit(mindsd(arguments))
        wait(child, manifest, before, when)
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        ends["killed" if killed else "ended"] += 1
        ends["drawing"] += lines(manifest) > before
    print(json.dumps(ends))


def wait(child: int, manifest: Path, before: int, when: random.Random) -> None:
    """For a random while: a third anywhere from the start, the others since some lines were
    written, so that a busy machine is killed while drawing, too."""
    if when.random() < 1 / 3:
        time.sleep(when.uniform(0, 0.6))
        return
    until = before + when.randint(1, 4)
    state = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while lines(manifest) < until and os.waitid(os.P_PID, child, state) is None:
        time.sleep(0.002)
    time.sleep(when.uniform(0, 0.1))


def lines(manifest: Path) -> int:
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


if __name__ == "__main__":
    main()
