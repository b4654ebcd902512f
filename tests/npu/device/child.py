"""Python in another process, with torch_npu's surroundings as they are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# torch must not load torch_npu by itself: the stand-in for CANN comes first.
QUIET = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "TORCH_CPP_LOG_LEVEL": "ERROR"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` at the root of the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **QUIET, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def printed(*arguments: str, **environment: str) -> str:
    """The last line that it prints; it must not fail."""
    done = run(*arguments, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]
