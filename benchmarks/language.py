"""Text generation beside transformers: one stream, many ragged requests, prompts, shared prefixes.

    python benchmarks/language.py --rounds 3 --threads 2 --dtype bfloat16
    python benchmarks/language.py --only ragged --tiny          # to try the command

SmolLM2-135M's real weights. Every measurement is a process of its own (two schedulers in one would
take each other's cores), ways take turns (A B A B), numbers are medians over the rounds. The limits
printed last are of this machine: no engine reads the weights faster than its memory gives them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from language_worker import CASES, Job, limits
from rich.console import Console
from rich.progress import track
from rich.table import Table

WAYS = {
    "stream": ("generate", "mindsd"),
    "repeating": ("generate", "mindsd", "mindsd, lookup"),
    "prompt": ("generate", "mindsd"),
    "ragged": ("continuous batching", "mindsd"),
    "arrivals": ("mindsd, whole prompts", "mindsd"),
    "prefix": ("mindsd",),
}
TOLD: dict[str, tuple[str, Callable[[float], str]]] = {
    "stream": ("tokens/s", "{:.1f}".format),
    "repeating": ("tokens/s", "{:.1f}".format),
    "prompt": ("prompt tokens/s", "{:.0f}".format),
    "ragged": ("tokens/s", "{:.1f}".format),
    "arrivals": ("p90 s to first token", "{:.2f}".format),
    "prefix": ("second / first user", "{:.1%}".format),
}
TITLES = {
    "stream": "one stream, 64 tokens after 32",
    "repeating": "one stream whose text repeats its prompt",
    "prompt": "a prompt of 1,024 tokens",
    "ragged": "16 requests of 16-512 tokens, 8-128 new ones",
    "arrivals": "one request each 0.3 s, one of 16 with 2,048 tokens, the rest with 16-96",
    "prefix": "a prompt of 1,000 shared tokens: time to the second user's first token",
}


def main() -> int:
    options = read_options()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        measured("save", options, folder, {}, console)
        for case in options.only:
            ways = WAYS[case]
            found: dict[str, list[float]] = {way: [] for way in ways}
            turns = [way for _ in range(options.rounds) for way in ways]
            for way in track(turns, case, console=console, transient=True):
                found[way].append(measured(case, options, folder, {"way": way}, console))
            print_case(case, found)
    print_limits(options)
    return 0


def measured(
    case: str, options: argparse.Namespace, folder: str, more: dict[str, Any], console: Console
) -> float:
    """One measurement in a process of its own."""
    job = Job(case, folder, options.dtype, options.threads, options.tiny, **more)
    worker = Path(__file__).with_name("language_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), json.dumps(vars(job))], capture_output=True, text=True
    )
    if done.returncode:
        console.print(done.stderr[-2000:], markup=False, highlight=False)
        raise SystemExit(f"{case}: a measurement failed")
    return float(done.stdout.strip().splitlines()[-1])


def print_case(case: str, found: dict[str, list[float]]) -> None:
    unit, told = TOLD[case]
    table = Table("way", unit, "least", "most", "to the first", title=TITLES[case])
    first = statistics.median(next(iter(found.values())))
    for way, values in found.items():
        middle = statistics.median(values)
        ratio = first / middle if case == "arrivals" else middle / first
        table.add_row(way, *map(told, (middle, min(values), max(values))), f"{ratio:.2f}x")
    Console(width=100).print(table)


def print_limits(options: argparse.Namespace) -> None:
    gigabytes, gigaflops = limits(options.threads, options.dtype)
    size = {"float32": 4, "bfloat16": 2}[options.dtype] * 134.5e6
    print(
        f"limits here, {options.threads} threads, {options.dtype}: memory {gigabytes:.1f} GB/s, so "
        f"one stream at most {gigabytes * 1e9 / size:.0f} tokens/s; products "
        f"{gigaflops:.0f} GFLOP/s, so prompts at most {gigaflops * 1e9 / 269e6:.0f} tokens/s"
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", type=lambda x: x.split(","), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tiny", action="store_true", help="a random model of two layers")
    options = parser.parse_args()
    if unknown := set(options.only) - set(CASES):
        parser.error(f"unknown case {sorted(unknown)[0]}; choose some of {', '.join(CASES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
