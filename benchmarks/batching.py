"""Many requests through the engine, against plain diffusers one after the other and as a list.

    python benchmarks/batching.py --model tiny-sd --steps 20 --rounds 3

All three draw the same prompts and seeds with the same weights, in turns (A B C A B C ...), in one
process; the table has medians over the rounds. Latency of an image counts from the moment at which
all were asked for. A list is diffusers' own batch: it needs equal settings and nobody joins late.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mindsd.device import find_device
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.request import Done, follow

PROMPTS = ("a red circle", "two green stars", "a blue square on a white background", "a pink heart")


@dataclass(frozen=True)
class Run:
    """One round of one way: seconds to each image, and denoiser forwards."""

    latencies: list[float]
    forwards: int


@dataclass
class Bench:
    """The model once plain and once in the engine, and what both are asked."""

    options: argparse.Namespace

    def __post_init__(self) -> None:
        load: dict[str, Any] = {"device": self.options.device, "dtype": self.options.dtype}
        self.pipe: Any = load_model(self.options.model, **load).pipe
        self.pipe.set_progress_bar_config(disable=True)
        self.draw = TextToImage.load(self.options.model, **load)

    def prompts(self, number: int) -> list[str]:
        return [PROMPTS[i % len(PROMPTS)] for i in range(number)]

    def one_by_one(self, number: int) -> Run:
        began, latencies = time.perf_counter(), []
        for seed, prompt in enumerate(self.prompts(number)):
            self._plain([prompt], [seed])
            latencies.append(time.perf_counter() - began)
        return Run(latencies, number * self.options.steps)

    def as_list(self, number: int) -> Run:
        began = time.perf_counter()
        self._plain(self.prompts(number), list(range(number)))
        return Run([time.perf_counter() - began] * number, self.options.steps)

    def engine(self, number: int) -> Run:
        before = self.draw.engine.counts.forwards.get("denoise", 0)
        began, latencies = time.perf_counter(), []
        asked = enumerate(self.prompts(number))
        steps = self.options.steps
        requests = [self.draw.submit(ImageParameters(p, steps=steps, seed=s)) for s, p in asked]
        for request, event in follow(requests):
            if isinstance(event, Done):
                latencies.append(time.perf_counter() - began)
            elif request.ended:
                request.result()  # raises what went wrong
        return Run(latencies, self.draw.engine.counts.forwards["denoise"] - before)

    def _plain(self, prompts: list[str], seeds: list[int]) -> None:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self.pipe(prompts, num_inference_steps=self.options.steps, generator=generators)


def measure(bench: Bench, number: int, rounds: int, console: Console) -> dict[str, list[Run]]:
    ways: dict[str, Callable[[int], Run]] = {
        "diffusers, one by one": bench.one_by_one,
        "diffusers, prompt list": bench.as_list,
        "mindsd engine": bench.engine,
    }
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            console.print(f"N = {number}, round {turn + 1} of {rounds}: {name}", style="dim")
            runs[name].append(way(number))
    return runs


def row(number: int, name: str, runs: list[Run], baseline: list[Run]) -> list[str]:
    """One line of the table: medians over the rounds."""
    rate = statistics.median(number / max(run.latencies) for run in runs)
    plain = statistics.median(number / max(run.latencies) for run in baseline)
    middle = statistics.median(statistics.median(run.latencies) for run in runs)
    rank = math.ceil(0.9 * number) - 1  # nearest rank: nine of ten images are no later
    late = statistics.median(sorted(run.latencies)[rank] for run in runs)
    cells = [f"{rate:.2f}", f"{rate / plain:.2f}x", f"{middle:.2f}", f"{late:.2f}"]
    return [str(number), name, *cells, str(runs[-1].forwards)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="tiny-sd")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's choice)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    bench = Bench(options)
    for warm in (bench.one_by_one, bench.as_list, bench.engine):
        warm(1)
    columns = ("N", "way", "images/s", "to one by one", "p50 s", "p90 s", "forwards")
    table = Table(*columns, title=f"{options.model}, {options.steps} steps")
    for number in options.numbers:
        runs = measure(bench, number, options.rounds, console)
        for name, own in runs.items():
            table.add_row(*row(number, name, own, runs["diffusers, one by one"]))
    Console(width=100).print(table)
    device, threads = find_device(options.device), torch.get_num_threads()
    print(f"{device.name}, {device.kind}, {threads} threads, torch {torch.__version__}")
    bench.draw.close()


if __name__ == "__main__":
    main()
