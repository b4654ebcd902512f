"""One measurement of language.py, in a process of its own; its last line is the number."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from mindsd.aside import aside
from mindsd.batching.tokens import Budget
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.prepack import Prepacked
from mindsd.request import Piece, Request
from mindsd.weights.language import find_language_model
from mindsd.weights.loading import load_language_model

CASES = ("stream", "repeating", "prompt", "ragged", "arrivals", "prefix")
WORDS = 49_000
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}


@dataclass(frozen=True)
class Job:
    """What is measured, and how."""

    case: str
    folder: str
    dtype: str
    threads: int
    tiny: bool
    way: str = ""


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    print(save(job) if job.case == "save" else MEASURES[job.case](job))


def save(job: Job) -> float:
    """The model as a folder, which loads at once, where a GGUF file must be unpacked."""
    model, tokenizer = load_language_model(find_language_model("smollm2"), torch.float32)
    if job.tiny:
        model.config.num_hidden_layers = 2
        model = type(model)(model.config)
    model.save_pretrained(job.folder)
    tokenizer.save_pretrained(job.folder)
    return 0.0


def ours(job: Job, budget: Budget | None = None) -> TextGeneration:
    speculation = "lookup" if "lookup" in job.way else "none"
    return TextGeneration.load(
        job.folder, dtype=job.dtype, budget=budget, speculation=speculation, device="cpu"
    )


def theirs(job: Job) -> Any:
    model, _ = aside(
        lambda: load_language_model(
            find_language_model(job.folder), getattr(torch, job.dtype), "cpu"
        )
    )
    return model


def tokens(number: int, seed: int = 0) -> list[int]:
    chosen = random.Random(seed)
    return [chosen.randrange(3, WORDS) for _ in range(number)]


class Times(BaseStreamer):
    """When each token of `generate` came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def put(self, value: Any) -> None:
        self.at.append(time.perf_counter())

    def end(self) -> None:
        pass


def generate(model: Any, prompt: list[int], number: int) -> list[float]:
    """Times: of the prompt, then of each token."""
    ids, times = torch.tensor([prompt]), Times()
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=number,
            min_new_tokens=number,
            streamer=times,
            pad_token_id=0,
        )
    return times.at


def arrived(request: Request) -> list[tuple[float, int]]:
    """When tokens came, and how many."""
    return [
        (time.perf_counter(), len(event.tokens))
        for event in request.events()
        if isinstance(event, Piece)
    ]


def speed(job: Job, prompt: list[int], number: int) -> float:
    """Tokens for each second after the first one."""
    if job.way == "generate":
        model = theirs(job)
        generate(model, prompt[:8], 4)
        at = generate(model, prompt, number)[1:]
        return (len(at) - 1) / (at[-1] - at[0])
    with ours(job) as llm:
        llm(prompt[:8], max_tokens=4, **GREEDY)
        came = arrived(llm.submit(prompt, max_tokens=number, **GREEDY))
        return (number - came[0][1]) / (came[-1][0] - came[0][0])


def stream(job: Job) -> float:
    return speed(job, tokens(32), 64)


def repeating(job: Job) -> float:
    return speed(job, tokens(24) * 6, 96)


def prompt(job: Job) -> float:
    text, number = tokens(1024), 1024
    if job.way == "generate":
        model = theirs(job)
        generate(model, text[:64], 2)
        began = time.perf_counter()
        return number / (generate(model, text, 1)[1] - began)
    with ours(job) as llm:
        llm(tokens(64, 1), max_tokens=2, **GREEDY)
        began = time.perf_counter()
        return number / (arrived(llm.submit(text, max_tokens=1, **GREEDY))[0][0] - began)


def ragged(job: Job) -> float:
    chosen = random.Random(7)
    shapes = [(chosen.randint(16, 512), chosen.randint(8, 128)) for _ in range(16)]
    texts = [tokens(length, 10 + i) for i, (length, _) in enumerate(shapes)]
    total = sum(number for _, number in shapes)
    if job.way == "mindsd":
        with ours(job) as llm:
            llm(tokens(8), max_tokens=4, **GREEDY)
            began = time.perf_counter()
            requests = [
                llm.submit(text, max_tokens=number, **GREEDY)
                for text, (_, number) in zip(texts, shapes, strict=True)
            ]
            for request in requests:
                request.result()
            return total / (time.perf_counter() - began)
    return continuous(theirs(job), texts, [number for _, number in shapes])


def continuous(model: Any, texts: list[list[int]], numbers: list[int]) -> float:
    """transformers' continuous batching; its cache is made before the clock starts."""
    greedy = GenerationConfig(
        max_new_tokens=max(numbers), do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    config = ContinuousBatchingConfig(page_size=64, num_blocks=256, max_batch_tokens=512)
    manager = model.init_continuous_batching(
        generation_config=greedy, continuous_batching_config=config
    )
    manager.start()
    try:
        manager.add_request(texts[0][:8], max_new_tokens=4)
        manager.get_result()
        began = time.perf_counter()
        for text, number in zip(texts, numbers, strict=True):
            manager.add_request(text, max_new_tokens=number)
        drawn = sum(len(manager.get_result().generated_tokens) for _ in texts)
        took = time.perf_counter() - began
    finally:
        manager.stop(block=True)
    if drawn != sum(numbers):
        raise RuntimeError(f"{drawn} tokens came, {sum(numbers)} were asked for")
    return drawn / took


def arrivals(job: Job) -> float:
    """p90 of the seconds to the first token."""
    whole = Budget(tokens=8192) if "whole" in job.way else Budget()
    with ours(job, whole) as llm:
        llm(tokens(8), max_tokens=4, **GREEDY)
        chosen, requests, began = random.Random(3), [], time.perf_counter()
        for place in range(32):
            length = 2048 if place % 16 == 1 else chosen.randint(16, 96)
            while time.perf_counter() < began + 0.3 * place:
                time.sleep(0.005)
            said: list[float] = []
            request = llm.submit(tokens(length, 50 + place), max_tokens=24, **GREEDY)
            request.redirect(
                lambda event, said=said: (
                    said.append(time.perf_counter()) if isinstance(event, Piece) else None
                )
            )
            requests.append((request, said))
        for request, _ in requests:
            request.result()
        return statistics.quantiles(
            [said[0] - request.submitted for request, said in requests], n=10
        )[-1]


def prefix(job: Job) -> float:
    shared = tokens(1000)
    with ours(job) as llm:
        llm(tokens(8, 1), max_tokens=4, **GREEDY)
        took = []
        for user in (1, 2):
            began = time.perf_counter()
            came = arrived(llm.submit(shared + tokens(8, user), max_tokens=1, **GREEDY))
            took.append(came[0][0] - began)
        return took[1] / took[0]


@torch.inference_mode()
def limits(threads: int, dtype: str) -> tuple[float, float]:
    """GB/s that memory is read with, and GFLOP/s of large products, laid out as ours are."""
    torch.set_num_threads(threads)
    large = torch.ones(2**28, dtype=torch.float32)
    layer = torch.nn.Sequential(torch.nn.Linear(2048, 1024).to(getattr(torch, dtype)))
    Prepacked(layer)
    given = torch.ones(1024, 2048).to(getattr(torch, dtype))
    read = best(lambda: large.sum())
    product = best(lambda: layer(given))
    return large.nbytes / read / 1e9, 2 * 1024 * 1024 * 2048 / product / 1e9


def best(work: Any) -> float:
    took = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


MEASURES = {
    "stream": stream,
    "repeating": repeating,
    "prompt": prompt,
    "ragged": ragged,
    "arrivals": arrivals,
    "prefix": prefix,
}

if __name__ == "__main__":
    main()
