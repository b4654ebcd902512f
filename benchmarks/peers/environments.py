"""A virtual environment for each peer, with the peer alone in it.

Torch, diffusers and what they need are seen through a path file, from the environment that runs the
benchmark: every tool runs on the very same build of them, whatever the device it was made for. The
peers are installed with --no-deps for that reason; their metadata asks for "torch" of any version,
for which pip might fetch a CUDA build of some gigabytes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".peers"
PEERS = {
    "deepcache": "DeepCache==0.1.1",
    "tomesd": "tomesd==0.1.3",
    "cache-dit": "cache-dit==1.5.3",
    "openvino": "openvino==2026.4.1",
}
SHARED = ("torch", "diffusers", "yaml")  # yaml: cache-dit's


class NoEnvironment(Exception):
    """A peer cannot be installed; the message says why."""


def interpreter(tool: str) -> Path:
    """The Python that runs a tool; its environment is made when there is none yet.

    What is ours or diffusers' own runs in the present environment.

    Raises:
        NoEnvironment: it cannot be made.
    """
    if tool not in PEERS:
        return Path(sys.executable)
    folder, requirement = FOLDER / tool, PEERS[tool]
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / "installed"  # written last
    wanted = "\n".join([requirement, sys.version, *_shared()])
    if ready.exists() and ready.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    _install(python, requirement)
    packages = next(folder.glob("**/site-packages"))
    (packages / "shared.pth").write_text("\n".join(_shared()) + "\n")
    ready.write_text(wanted)
    return python


def _shared() -> list[str]:
    """The folders that the shared packages lie in."""
    specs = [(name, find_spec(name)) for name in SHARED]
    if missing := [name for name, spec in specs if spec is None or spec.origin is None]:
        raise NoEnvironment(f"{missing[0]} is not installed beside mindsd; say `make test` first")
    return sorted({str(Path(str(spec and spec.origin)).parents[1]) for _, spec in specs})


def _install(python: Path, requirement: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NoEnvironment(
            f"pip cannot install {requirement} into {python.parents[1]}: "
            f"{lines[-1] if lines else done.stderr.strip()}"
        )
