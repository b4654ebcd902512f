"""From a command to its result in a new process, and what its imports cost.

    python benchmarks/startup.py --rounds 5 --cold --json startup.json --markdown startup.md

Whole processes take turns: the page of help, an image of tiny-sd, the same by plain diffusers, and
an answer of 8 tokens. Told are the seconds from the start of the process to its end, those that the
processor worked for it (a busy machine changes these least) and the most memory it had. With --cold
the system first forgets the files that it has read, once for each command (Linux, root). Imports
are told by Python itself (-X importtime), each to the package whose own file ran.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from mindsd.device import cpu_facts

PROMPT, STEPS = "a red circle", 50  # as many as diffusers draws in where nothing is said
TINY_SD = Path(__file__).parents[1] / "assets" / "tiny-sd"
DIFFUSERS = f"""
import torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({str(TINY_SD)!r}, dtype=torch.float32)
pipe({PROMPT!r}, num_inference_steps={STEPS}).images[0].save("plain.png")
"""
MINDSD = ("-m", "mindsd.app")
COMMANDS = {
    "help": (*MINDSD, "--help"),
    "generate": (*MINDSD, "generate", PROMPT, "--steps", str(STEPS), "-q", "-o", "out"),
    "diffusers": ("-c", DIFFUSERS),
    "chat": (*MINDSD, "chat", "Hello", "--max-tokens", "8"),
}
DROP = Path("/proc/sys/vm/drop_caches")
GROUPS = {"typer, rich": ("typer", "rich", "shellingham")}
LEAST = 0.01  # of the whole; parts below it are told together
PATIENCE = 900.0  # seconds for a command


@dataclass(frozen=True)
class Run:
    """One process from its start to its end: seconds, seconds of all cores, MiB at most."""

    seconds: float
    worked: float
    memory: float


@dataclass(frozen=True)
class Part:
    """What the imports of one package took, without what they imported in turn."""

    name: str
    modules: int
    ms: float


def main() -> int:
    options = read_options()
    with tempfile.TemporaryDirectory() as room:
        report = measured(options, room)
    text = markdown(report)
    print(text)
    for path, content in ((options.json, json.dumps(report, indent=1)), (options.markdown, text)):
        if path is not None:
            path.write_text(content + "\n")
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--imports", nargs="*", choices=COMMANDS, default=["help", "generate"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="and once with no file in memory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.cold and not os.access(DROP, os.W_OK):
        parser.error(f"--cold writes {DROP}, which takes Linux and root")
    return options


def measured(options: argparse.Namespace, room: str) -> dict[str, Any]:
    cold: dict[str, Run] = {}
    found: dict[str, list[Run]] = {name: [] for name in options.commands}
    for name in options.commands if options.cold else ():
        os.sync()
        DROP.write_text("3")
        cold[name] = run(COMMANDS[name], room)
    turns = [name for _ in range(options.rounds) for name in options.commands]
    for name in track(turns, "whole processes", console=Console(stderr=True), transient=True):
        found[name].append(run(COMMANDS[name], room))
    return {
        "cpu": cpu_facts()[0],
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cold": {name: asdict(own) for name, own in cold.items()},
        "runs": {name: [asdict(own) for own in runs] for name, runs in found.items()},
        "imports": {
            name: [asdict(own) for own in imported(name, room)] for name in options.imports
        },
    }


def run(command: tuple[str, ...], room: str) -> Run:
    """A whole process in that folder.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=room, **_unheard())
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _unheard() -> dict[str, Any]:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def imported(name: str, room: str) -> list[Part]:
    """What a command's imports took, by package, the longest first."""
    command = [sys.executable, "-X", "importtime", *COMMANDS[name]]
    how: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": True}
    return parts(subprocess.run(command, cwd=room, **how).stderr)


def parts(told: str) -> list[Part]:
    """The lines of -X importtime by package: "import time: self [us] | cumulative | module"."""
    ms: dict[str, list[float]] = {}
    for line in told.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and len(fields) == 3 and fields[0].strip().isdigit():
            ms.setdefault(part_of(fields[2].strip()), []).append(int(fields[0]) / 1e3)
    found = [Part(name, len(own), sum(own)) for name, own in ms.items()]
    return sorted(found, key=lambda own: -own.ms)


def part_of(module: str) -> str:
    """The package that a module's time is told to."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return "Python's own"
    return next((group for group, own in GROUPS.items() if package in own), package)


def markdown(report: Mapping[str, Any]) -> str:
    lines = [f"{report['cpu']}, {report['cores']} cores, torch {report['torch']}\n"]
    lines += ["command | first s | later s | spread | processor s | MiB", "---|---|---|---|---|---"]
    for name, runs in report["runs"].items():
        seconds, worked, memory = (
            [own[what] for own in runs] for what in ("seconds", "worked", "memory")
        )
        first = report["cold"].get(name)
        lines.append(
            f"{name} | {'' if first is None else format(first['seconds'], '.2f')} | "
            f"{statistics.median(seconds):.2f} | {min(seconds):.2f}-{max(seconds):.2f} | "
            f"{statistics.median(worked):.2f} | {statistics.median(memory):.0f}"
        )
    for name, found in report["imports"].items():
        lines += [f"\nimports of {name}\n", *_table(found)]
    return "\n".join(lines)


def _table(found: list[dict[str, Any]]) -> list[str]:
    whole = sum(own["ms"] for own in found)
    large = [own for own in found if own["ms"] >= LEAST * whole]
    small = [own for own in found if own["ms"] < LEAST * whole]
    rows = [(own["name"], [own]) for own in large]
    rows += [("others", small), ("all", found)]
    told = ["part | modules | ms | share", "---|---|---|---"]
    for name, some in rows:
        modules, ms = (sum(own[what] for own in some) for what in ("modules", "ms"))
        told.append(f"{name} | {modules} | {ms:.0f} | {ms / whole:.0%}")
    return told


if __name__ == "__main__":
    sys.exit(main())
