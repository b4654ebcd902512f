"""Text generation beside unmodified peers, on the same weights, prompts and threads.

    python benchmarks/language_peers.py --rounds 3 --threads 2 --json language_peers.json
    python benchmarks/language_peers.py --only transformers,mindsd --short

Peers are transformers' generate, llama.cpp (through llama-cpp-python), OpenVINO GenAI and vLLM for
CPUs, each installed into an environment of its own under .peers/ when it first runs (llama.cpp is
compiled, which takes a quarter of an hour on two cores). All load SmolLM2-135M's Q4_1 file, or what
is unpacked from it once. A way's numbers of one round come from one process; ways take turns
(A B C A B C), and numbers are medians over the rounds, with the least and the most.

Decode is batch * n / (time of n + 1 tokens - time of 1), so prompts do not count; prefill is 512
tokens by the whole call that draws one. What cannot be installed or fails is named below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from peers.environments import NoEnvironment
from peers.language.job import Job, Measured
from peers.language.tables import ratios, speeds
from peers.language.turns import Results, ask, run
from peers.language.ways import NAMES, WAYS, Way
from peers.language.weights import NoWeights, Weights, weights
from peers.options import positive, some_of, writable
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mindsd.device import cpu_facts

INTERRUPTED = 130


def main() -> int:
    options = read_options()
    console = Console(stderr=True)
    ways = [way for way in WAYS if way.name in options.only]
    try:
        ready = weights(openvino=any(way.engine == "openvino" for way in ways))
        job = asked(options)
        results = measured(ways, job, ready, options.rounds, console)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (NoEnvironment, NoWeights) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
        return 1
    text = told(results, ways, job, ready, options.rounds)
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text + "\n")
    if options.json is not None:
        save(results, job, ready, options.json)
    return 0 if results.measured else 1


def asked(options: argparse.Namespace) -> Job:
    job = Job("", {}, "", [], options.threads)
    if options.short:
        return replace(job, batches=(1, 2), drawn=4, prefill=64, repeats=1)
    return job


def measured(
    ways: Sequence[Way], job: Job, ready: Weights, rounds: int, console: Console
) -> Results:
    """Run all, with a bar."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=len(ways) * rounds)

        def counted(way: Way) -> Measured:
            try:
                return ask(way.asks(job, ready))
            finally:
                bar.advance(task)

        return run(ways, rounds, counted, lambda what: bar.update(task, description=what))


def told(results: Results, ways: Sequence[Way], job: Job, ready: Weights, rounds: int) -> str:
    """All tables and what is needed to read them."""
    parts = [
        f"SmolLM2-135M, {job.threads} threads, tokens/s: decode {job.drawn} tokens after prompts "
        f"of {job.prompt}, prefill of {job.prefill}; median of {rounds} rounds (least-most)"
    ]
    if results.measured:
        parts += [speeds(results, ways, ready.expected), ratios(results, ways)]
    titles = {way.name: way.title for way in ways}
    parts += [f"left out: {titles[name]}: {why}" for name, why in results.left_out.items()]
    return "\n\n".join([*parts, "; ".join([machine(), *versions(results, ways)])])


def versions(results: Results, ways: Sequence[Way]) -> list[str]:
    """Of each engine's own environment: they differ."""
    by_engine = {
        way.engine: results.measured[way.name][0].versions
        for way in ways
        if way.name in results.measured
    }
    return [
        f"{engine}: {', '.join(f'{name} {number}' for name, number in own.items())}"
        for engine, own in by_engine.items()
    ]


def machine() -> str:
    name, features = cpu_facts()
    return f"{name}, {os.cpu_count()} cores ({', '.join(features)})"


def save(results: Results, job: Job, ready: Weights, file: Path) -> None:
    """All numbers."""
    everything = {
        "machine": machine(),
        "job": asdict(job),
        "expected": ready.expected,
        "ways": {name: [asdict(one) for one in own] for name, own in results.measured.items()},
        "left_out": results.left_out,
    }
    file.write_text(json.dumps(everything, indent=2) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--only", type=some_of(NAMES), default=NAMES, help=f"some of {','.join(NAMES)}"
    )
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--short", action="store_true", help="few tokens: to try the command")
    parser.add_argument("--json", type=writable, help="file for all numbers")
    parser.add_argument("--markdown", type=writable, help="file for the tables")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
