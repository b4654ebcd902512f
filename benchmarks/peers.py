"""Our step cache and token merging beside unmodified peers, on the same models in the same rounds.

    python benchmarks/peers.py --rounds 3 --threads 2 --json peers.json
    python benchmarks/peers.py --only dit,tome --tiny --size 128

Peers are DeepCache, tomesd, cache-dit and diffusers' own FirstBlockCache, each installed into an
environment of its own under .peers/. Models have random weights, so only time and memory are
compared, on equal plans: the table says which steps each really ran whole. Every measurement is a
process; ways take turns (A B C A B C), and numbers are medians over the rounds. Needs about 12 GB
of memory for SDXL in float32, and hours for all at full size on two cores.

"kept" is the memory behind all tensors that a tool holds when the last step has ended; "at 16 bits"
is the same number of elements at two bytes each. Peers reuse what the last whole step gave; so does
"order=0", while ours otherwise forecasts along a slope that it keeps as well, in float32. "layers
off" is ours without its fast layers and attention, on the very modules that the peers run: what is
left out is all that differs.
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
from peers.options import positive, some_of, writable
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
        for case in wished:
            results = measured(case, options.rounds if case.job.timed else 1, console)
            print(f"### {headline(case)}\n\n{table(case, results)}\n", flush=True)
            finished.append((case, results))
            if options.json is not None:
                save(finished, options.json)
    except KeyboardInterrupt:
        console.print("stopped; what was finished is told")
        return INTERRUPTED
    except (Failed, NoEnvironment) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
        return 1
    print(f"{platform.processor() or platform.machine()}, {told(versions(finished))}")
    return 0


def measured(case: Case, rounds: int, console: Console) -> Results:
    """Run one case, with a bar."""
    with progress(console) as bar:
        task = bar.add_task("", total=len(case.ways) * rounds)

        def counted(job: Job) -> Measured:
            answer = ask(job)
            bar.advance(task)
            return answer

        return run(case, rounds, counted, lambda what: bar.update(task, description=what))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--only", type=some_of(CASES), default=CASES, help=f"some of {','.join(CASES)}"
    )
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--steps", type=positive, help="instead of each case's own")
    parser.add_argument("--size", type=side, help="side in pixels, instead of each case's own")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threshold", type=float, default=0.6, help="of FirstBlockCache")
    parser.add_argument("--tiny", action="store_true", help="few channels: to try the command")
    parser.add_argument("--json", type=writable, help="file for all numbers")
    return parser.parse_args()


def side(text: str) -> int:
    if positive(text) % 64:
        raise argparse.ArgumentTypeError(f"{text} is no multiple of 64")
    return int(text)


def progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def table(case: Case, results: Results) -> str:
    return timed(results, PLAIN.name) if case.job.timed else kept(results)


def versions(finished: list[tuple[Case, Results]]) -> dict[str, str]:
    """Of all that took part."""
    answers = [one for _, results in finished for own in results.values() for one in own]
    return {name: number for one in answers for name, number in one.versions.items()}


def told(numbers: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items()))


def save(finished: list[tuple[Case, Results]], file: Path) -> None:
    """All numbers so far."""
    cases = [
        {
            "case": case.name,
            "title": case.title,
            "job": asdict(case.job),
            "ways": {name: [asdict(one) for one in own] for name, own in results.items()},
        }
        for case, results in finished
    ]
    file.write_text(json.dumps({"versions": versions(finished), "cases": cases}, indent=2) + "\n")


def headline(case: Case) -> str:
    job = case.job
    parts = [
        f"{job.size}x{job.size}",
        f"{job.steps} steps" if job.timed else f"after {job.steps} steps",
        "with guidance" if job.guided else "without guidance",
        f"{job.dtype}, {job.threads} threads",
    ]
    return f"{case.title}{', tiny' if job.tiny else ''}: {', '.join(parts)}"


if __name__ == "__main__":
    sys.exit(main())
