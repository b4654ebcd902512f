"""A small language model on a CPU: ours as it is and with 8-bit weights, beside transformers.

    python benchmarks/cpu_language.py --threads 2
    python benchmarks/cpu_language.py --ways "mindsd;mindsd int8" --batches 1,8 --dtype float32

SmolLM2-135M's real weights, greedy, prompts of 32 random tokens. Every measurement is a process of
its own, ways take turns, numbers are medians over the rounds. Decoding is batch * n tokens by the
time of n + 1 tokens less the time of one, so prompts do not count. What a text reads of the
weights, for each token, is set beside what this machine's memory gave in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from language_worker import Job, limits, save, theirs
from language_worker import tokens as random_tokens
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mindsd.device import find_device
from mindsd.pipelines.text_generation import TextGeneration

WEIGHTS = 134.5e6
BYTES = {"int8": 1, "bfloat16": 2, "float32": 4}
WAYS = {  # name -> layers; None for transformers' own generate
    "generate": None,
    "mindsd, modules": "off",
    "mindsd": "auto",
    "mindsd int8": "int8",
}
USUAL = ("generate", "mindsd", "mindsd int8")
PROMPT, LONG = 32, 512

Run = Callable[..., float]  # (batch, tokens of each, seed, tokens of a prompt) -> seconds


@dataclass(frozen=True)
class Task:
    """One way, measured in a process of its own."""

    folder: str
    way: str
    dtype: str
    threads: int
    batches: list[int]
    number: int


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "--worker":
        print(json.dumps(measured(Task(**json.loads(sys.argv[2])))))
        return 0
    options = read_options()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        save(Job("save", folder, "float32", options.threads, options.tiny))
        found: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
        turns = [way for _ in range(options.rounds) for way in options.ways]
        for way in track(turns, "measuring", console=console, transient=True):
            task = Task(
                folder, way, options.dtype, options.threads, options.batches, options.number
            )
            found[way].append(asked(task, console))
    print_table(options, found)
    return 0


def asked(task: Task, console: Console) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", json.dumps(vars(task))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        console.print(done.stderr[-2000:], markup=False, highlight=False)
        raise SystemExit(f"{task.way}: a measurement failed")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(task: Task) -> dict[str, float]:
    """Tokens per second by batch, of a prompt, and GB/s of the memory meanwhile."""
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(task.threads)
    dtype, layers = task.dtype, WAYS[task.way]
    if layers is None:
        found = speeds(task, generating(theirs(Job("", task.folder, dtype, task.threads, False))))
    else:
        options: dict[str, Any] = {"dtype": dtype, "layers": layers, "speculation": "none"}
        with TextGeneration.load(task.folder, device="cpu", **options) as llm:
            found = speeds(task, asking(llm))
    return {**found, "memory": limits(task.threads, dtype)[0]}


def generating(model: Any) -> Run:
    def run(batch: int, number: int, seed: int, length: int = PROMPT) -> float:
        ids = torch.tensor([random_tokens(length, seed + i) for i in range(batch)])
        options = {"min_new_tokens": number, "do_sample": False, "pad_token_id": 0}
        began = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=number, **options
            )
        return time.perf_counter() - began

    return run


def asking(llm: TextGeneration) -> Run:
    def run(batch: int, number: int, seed: int, length: int = PROMPT) -> float:
        texts = [random_tokens(length, seed + i) for i in range(batch)]
        began = time.perf_counter()
        requests = [
            llm.submit(text, max_tokens=number, temperature=0, ignore_eos=True) for text in texts
        ]
        for request in requests:
            request.result()
        return time.perf_counter() - began

    return run


def speeds(task: Task, run: Run) -> dict[str, float]:
    """Every run has prompts of its own: none is found in a cache."""
    run(1, 4, 1)
    found, seed = {}, 1000
    for batch in task.batches:
        first, all_of_them = run(batch, 1, seed), run(batch, task.number + 1, seed + batch)
        found[str(batch)] = batch * task.number / (all_of_them - first)
        seed += 2 * batch
    found["prompt"] = LONG / run(1, 1, seed, LONG)
    return found


def print_table(options: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    titles = [f"batch {batch}" for batch in options.batches]
    table = Table(
        "way", *titles, "of the memory", f"prompt of {LONG}", title=f"tokens/s, {options.dtype}"
    )
    for way, rounds in found.items():
        middle = {key: statistics.median(own[key] for own in rounds) for key in rounds[0]}
        size = BYTES["int8" if WAYS[way] == "int8" else options.dtype] * WEIGHTS
        one = middle[str(options.batches[0])] / options.batches[0]
        share = f"{one * size / middle['memory'] / 1e9:.0%} of {middle['memory']:.0f} GB/s"
        speed = [f"{middle[str(batch)]:.1f}" for batch in options.batches]
        table.add_row(way, *speed, share, f"{middle['prompt']:.0f}")
    Console(width=110).print(table)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ways", type=lambda x: x.split(";"), default=list(USUAL))
    parser.add_argument("--batches", type=lambda x: [int(own) for own in x.split(",")])
    fast = str(find_device("cpu").dtype).removeprefix("torch.")
    choices = ("float32", "bfloat16")
    parser.add_argument("--dtype", choices=choices, default=fast, help="this CPU's: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--number", type=int, default=64, help="tokens of each text")
    parser.add_argument("--tiny", action="store_true", help="a random model of two layers")
    parser.set_defaults(batches=[1, 8, 32])
    options = parser.parse_args()
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"unknown way {sorted(unknown)[0]!r}; choose some of {'; '.join(WAYS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
