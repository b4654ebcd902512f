"""Wheels of other projects, unpacked beside the repository and never installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[3] / ".peers" / "npu"


def unpacked(name: str, version: str) -> str | None:
    """Puts the unpacked wheel on sys.path; downloads it with pip where it is not there yet.

    Returns:
        Why it cannot be had, or None.
    """
    folder = ROOT / f"{name}-{version}"
    if not folder.is_dir() and (problem := _download(name, version, folder)):
        return f"{name} {version}: {problem}"
    sys.path.append(str(folder))
    return None


def _download(name: str, version: str, folder: Path) -> str | None:
    ROOT.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(ROOT)]
    done = subprocess.run([*command, f"{name}=={version}"], capture_output=True, text=True)
    wheels = list(ROOT.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if done.returncode or not wheels:
        return (done.stderr.strip().splitlines() or ["pip found no wheel"])[-1]
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    return None


def plugins() -> tuple[Path, ...]:
    """The shared objects of unpacked wheels that link against CANN, for the installed torch."""
    version = "".join(metadata.version("torch").split(".")[:2])
    return tuple(sorted(ROOT.glob(f"*/*/plugin/torch{version}/*.so")))
