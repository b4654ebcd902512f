"""Our step cache and token merging beside unmodified peers, on the same models in the same rounds.

    python benchmarks/peers.py --rounds 3 --threads 2 --json peers.json
    python benchmarks/peers.py --only dit,tome --tiny --size 128

Peers are DeepCache, tomesd, cache-dit and diffusers' own FirstBlockCache, each installed into an
environment of its own under .peers/. Models have random weights, so only time and memory are
compared, on equal plans: the table says which steps each really ran whole. Every measurement is a
process; ways take turns (A B C A B C), and numbers are medians over the rounds. Needs about 12 GB
of memory for SDXL in float32, and hours for all at full size on two cores.

"kept" is the memory behind all tensors that a tool holds when the last step has ended; "at 16 bits"
is the same number of elements at two bytes each.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from peers.cases import PLAIN, Case, cases
from peers.environments import NoEnvironment
from peers.job import Job, Measured
from peers.tables import Results, kept, timed
from peers.turns import Failed, ask, run
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

CASES = ("sd15", "sdxl", "dit", "tome", "memory")
INTERRUPTED = 130


def main() -> int:
    options = read_options()
    common = Job("", "", {}, 0, 0, options.threads, options.dtype, tiny=options.tiny)
    wished = [
        case
        for case in cases(common, options.size, options.steps, options.threshold)
        if case.name in options.only
    ]
    console = Console(stderr=True)
    finished: list[tuple[Case, Results]] = []
    try:
        with progress(console) as bar:
            total = sum(len(case.ways) * rounds_of(case, options.rounds) for case in wished)
            task = bar.add_task("", total=total)

            def counted(job: Job) -> Measured:
                measured = ask(job)
                bar.advance(task)
                return measured

            def told(what: str) -> None:
                bar.update(task, description=what)

            for case in wished:
                results = run(case, rounds_of(case, options.rounds), counted, told)
                finished.append((case, results))
                console.print(f"finished: {case.title}")
    except KeyboardInterrupt:
        console.print("stopped; below is what was finished")
        return INTERRUPTED
    except (Failed, NoEnvironment) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
        return 1
    finally:
        report(finished, options.json)
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", type=names, default=CASES, help=f"some of {','.join(CASES)}")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--steps", type=positive, help="instead of each case's own")
    parser.add_argument("--size", type=side, help="side in pixels, instead of each case's own")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threshold", type=float, default=0.6, help="of FirstBlockCache")
    parser.add_argument("--tiny", action="store_true", help="few channels: to try the command")
    parser.add_argument("--json", type=writable, help="file for all numbers")
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    wished = tuple(text.split(","))
    if strange := [name for name in wished if name not in CASES]:
        raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(CASES)}")
    return wished


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def side(text: str) -> int:
    if positive(text) % 64:
        raise argparse.ArgumentTypeError(f"{text} is no multiple of 64")
    return int(text)


def writable(text: str) -> Path:
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.absolute().parent}")
    return path


def rounds_of(case: Case, rounds: int) -> int:
    """One is enough where no time is measured."""
    return rounds if case.job.timed else 1


def progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def report(finished: list[tuple[Case, Results]], file: Path | None) -> None:
    """Tables to stdout, all numbers to the file."""
    for case, results in finished:
        table = timed(results, PLAIN.name) if case.job.timed else kept(results)
        print(f"### {headline(case)}\n\n{table}\n")
    known = [one.versions for _, results in finished for own in results.values() for one in own]
    found = {name: number for versions in known for name, number in versions.items()}
    if found:
        numbers = ", ".join(f"{name} {number}" for name, number in sorted(found.items()))
        print(f"{platform.processor() or platform.machine()}, {numbers}")
    if file is not None:
        told = [
            {
                "case": case.name,
                "title": case.title,
                "job": asdict(case.job),
                "ways": {name: [asdict(one) for one in own] for name, own in results.items()},
            }
            for case, results in finished
        ]
        file.write_text(json.dumps({"versions": found, "cases": told}, indent=2) + "\n")


def headline(case: Case) -> str:
    job = case.job
    parts = [
        f"{job.size}x{job.size}",
        f"{job.steps} steps" if job.timed else "after one whole step",
        "with guidance" if job.guided else "without guidance",
        f"{job.dtype}, {job.threads} threads",
    ]
    return f"{case.title}{', tiny' if job.tiny else ''}: {', '.join(parts)}"


if __name__ == "__main__":
    sys.exit(main())
