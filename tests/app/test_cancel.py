"""Ctrl-C and SIGTERM in a real process: what is finished stays, nothing half is left."""

import json
import signal
import subprocess
import sys
import time

from PIL import Image


def start(model, out, *arguments):
    asked = [sys.executable, "-m", "mindsd.app", "generate", "a", "--model", model, "-o", out]
    return subprocess.Popen(
        [*map(str, asked), *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process, kind):
    """Read events up to the first of a kind."""
    for line in process.stdout:
        if json.loads(line)["event"] == kind:
            return
    raise AssertionError(f"no {kind}: {process.stderr.read()}")


def test_ctrl_c_keeps_what_is_finished(model, tmp_path):
    with start(model, tmp_path, "-n", 60, "--steps", 10) as process:
        until(process, "image")
        process.send_signal(signal.SIGINT)
        asked = time.perf_counter()
        out, err = process.communicate(timeout=60)
        seconds = time.perf_counter() - asked
    last = json.loads(out.splitlines()[-1])
    files = sorted(tmp_path.iterdir())
    assert process.returncode == 130 and last["cancelled"] and last["event"] == "done"
    assert 1 <= len(files) == last["written"] < 60
    assert err == f"cancelled: {len(files)} of 60 images were written\n"
    assert [file.name for file in files] == [f"{n:04d}.png" for n in range(1, len(files) + 1)]
    for file in files:
        Image.open(file).load()
    assert seconds < 10  # a step takes a fraction of a second; the rest is a loaded machine


def test_sigterm_while_the_model_loads(model, tmp_path):
    with start(model, tmp_path, "-n", 2) as process:
        until(process, "loading")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "cancelled: 0 of 2 images were written\n"
    assert list(tmp_path.iterdir()) == []
