"""Questions about pictures beside transformers' `generate`: to the first token, and on.

    python benchmarks/vision.py --rounds 3 --threads 2                  # tiny-vlm
    python benchmarks/vision.py --rounds 3 --threads 2 --shape          # larger, random weights
    python benchmarks/vision.py --only again --rounds 1 --pictures 2    # to try the command

Every measurement is a process of its own (two schedulers in one would take each other's cores),
ways take turns (A B A B), numbers are medians over the rounds, least and most in brackets. Where
both are greedy in float32 the tokens of mindsd must be those of `generate`; else it fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from vision_equal import compared
from vision_job import CASES, TOGETHER, Found, Job, Shape

SHAPE = "12x512,12x768,448"
GENERATE = {"way": "generate"}
OURS = {"way": "mindsd"}
MERGED = ("0.25", "0.5", "0.75", "diverse:0.5", "diverse:0.75")
Ways = dict[str, dict[str, str]]

ASKING: Ways = {
    "mindsd": OURS,
    "mindsd, no caches": OURS | {"caches": "none"},
    "mindsd, image_merge 0.5": OURS | {"merge": "0.5"},
}
WAYS: dict[str, Ways] = {
    "question": {"generate": GENERATE, **ASKING},
    "eight": {"generate": GENERATE, "generate, one padded batch": {"way": "batch"}, **ASKING},
    "again": {
        "generate": GENERATE,
        "mindsd": OURS,
        "mindsd, embedding cache alone": OURS | {"caches": "seen"},
    },
    "tokens": {"none": OURS, **{merge: OURS | {"merge": merge} for merge in MERGED}},
    "beside": {"chat": {"way": "chat"}, "images": {"way": "images"}, "both": {"way": "both"}},
}
TITLES = {
    "question": "one question, each about a picture never shown before",
    "eight": f"{TOGETHER} questions at once, each about a picture of its own",
    "again": "a second question about the same picture (aim: first token 5 times sooner)",
    "tokens": "image tokens merged or thinned out (image_merge)",
    "beside": "a chat beside images (aim: p90 between tokens within 3 times)",
}


@dataclass(frozen=True)
class Column:
    """A number of every way; `ratio` says whether less or more of it is better than the first's."""

    title: str
    key: str
    told: Callable[[float], str]
    ratio: str = ""


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


FIRST = Column("ms to first token", "first", _milliseconds, "less")
SPEED = (FIRST, Column("tokens/s", "rate", "{:.1f}".format, "more"))
COLUMNS: dict[str, tuple[Column, ...]] = {
    "question": SPEED,
    "eight": SPEED,
    "again": (
        Column("first question, ms", "first", _milliseconds),
        Column("second question, ms", "second", _milliseconds),
        Column("times sooner", "faster", "{:.2f}x".format),
    ),
    "tokens": (
        Column("tokens", "tokens", "{:.0f}".format),
        Column("answers right", "right", "{:.1%}".format),
        FIRST,
        Column("KV bytes a picture", "bytes", "{:,.0f}".format, "less"),
    ),
    "beside": (
        Column("p50 ms", "p50", _milliseconds),
        Column("p90 ms", "p90", _milliseconds, "less"),
        Column("p99 ms", "p99", _milliseconds),
        Column("longest ms", "longest", _milliseconds),
        Column("images, s", "images", "{:.2f}".format, "less"),
    ),
}


def main() -> int:
    options = read_options()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(options, folder)
        if options.shape:
            found = measured(replace(job, case="save"), console)
            print(f"random weights, {options.shape}: {found.numbers['parameters'] / 1e6:.1f} M")
        for case in options.only:
            found = measure_case(replace(job, case=case), options, console)
            print_case(case, found)
            if case in ("question", "eight", "again"):
                print(compared(case, job.dtype, found, exact(case)))
            if case == "beside":
                print(f"{job.images} images of {job.steps} steps in one batch")
    print(f"{options.threads} threads, {options.dtype}, medians of {options.rounds} rounds")
    return 0


def job_of(options: argparse.Namespace, folder: str) -> Job:
    """What all measurements have in common."""
    side = Shape.parse(options.shape).side if options.shape else 128
    own = {name: getattr(options, name) for name in ("new", "pictures", "scenes", "images")}
    place = folder if options.shape else options.model
    common = {"dtype": options.dtype, "threads": options.threads, "steps": options.steps}
    return Job("", place, shape=options.shape or "", side=side, **common, **own)


def measure_case(job: Job, options: argparse.Namespace, console: Console) -> dict[str, list[Found]]:
    """All ways of a case, in turns."""
    if job.case == "beside":
        job = replace(job, new=options.chat)
    jobs = {way: replace(job, **more) for way, more in WAYS[job.case].items()}
    found: dict[str, list[Found]] = {way: [] for way in jobs}
    turns = [way for _ in range(options.rounds) for way in jobs]
    for way in track(turns, job.case, console=console, transient=True):
        found[way].append(measured(jobs[way], console))
    if job.case == "tokens" and not options.shape:  # answers of random weights are never right
        for way in track(jobs, "accuracy", console=console, transient=True):
            right = measured(replace(jobs[way], case="accuracy"), console)
            found[way].append(right)
    return found


def measured(job: Job, console: Console) -> Found:
    """One measurement in a process of its own."""
    worker = Path(__file__).with_name("vision_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), json.dumps(vars(job))], capture_output=True, text=True
    )
    if done.returncode:
        console.print(done.stderr[-2000:], markup=False, highlight=False)
        raise SystemExit(f"{job.case}, {job.way}: a measurement failed")
    return Found(**json.loads(done.stdout.strip().splitlines()[-1]))


def exact(case: str) -> list[str]:
    """The ways that must say what `generate` says."""
    ways = WAYS[case].items()
    return [way for way, more in ways if more["way"] == "mindsd" and "merge" not in more]


def print_case(case: str, found: Mapping[str, list[Found]]) -> None:
    columns = COLUMNS[case]
    heads = [
        head
        for own in columns
        for head in ([own.title, "to the first"] if own.ratio else [own.title])
    ]
    table = Table("way", *heads, title=TITLES[case])
    middles: dict[str, float] = {}  # of the first way that has the number
    for way, runs in found.items():
        cells = []
        for column in columns:
            values = [run.numbers[column.key] for run in runs if column.key in run.numbers]
            cells += told(column, values, middles)
        table.add_row(way, *cells)
    Console(width=120).print(table)


def told(column: Column, values: list[float], middles: dict[str, float]) -> list[str]:
    """The cells of one number: median (least-most), and how it compares with the first way's."""
    if not values:
        return ["-", "-"] if column.ratio else ["-"]
    middle = statistics.median(values)
    span = f" ({column.told(min(values))}-{column.told(max(values))})"
    cell = column.told(middle) + (span if min(values) < max(values) else "")
    first = middles.setdefault(column.key, middle)
    if not column.ratio:
        return [cell]
    return [cell, f"{first / middle if column.ratio == 'less' else middle / first:.2f}x"]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add: Any = parser.add_argument
    add("--model", default="tiny-vlm", help="a known name or a folder")
    add("--shape", nargs="?", const=SHAPE, help=f"random weights: tower, decoder, side ({SHAPE})")
    add("--only", type=lambda x: x.split(","), default=list(CASES))
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=2)
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--new", type=int, default=32, help="tokens of an answer")
    add("--pictures", type=int, default=6, help="shown one after the other")
    add("--scenes", type=int, default=100, help="asked about for accuracy")
    add("--images", type=int, default=32, help="drawn beside the chat")
    add("--steps", type=int, default=20, help="of each image")
    add("--chat", type=int, default=200, help="tokens of the chat beside images")
    options = parser.parse_args()
    if unknown := set(options.only) - set(CASES):
        parser.error(f"unknown case {sorted(unknown)[0]}; choose some of {', '.join(CASES)}")
    if min(options.rounds, options.new, options.pictures, options.scenes, options.images) < 1:
        parser.error("rounds, new, pictures, scenes and images are 1 or more")
    if options.shape:
        try:
            Shape.parse(options.shape)
        except ValueError:
            parser.error(
                f"a shape is like {SHAPE}: widths of 64s, a side of 32s; not {options.shape}"
            )
    return options


if __name__ == "__main__":
    sys.exit(main())
