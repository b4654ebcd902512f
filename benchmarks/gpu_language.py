"""Text on a GPU beside transformers: one stream, a batch of 32, ragged requests, a prompt.

    python benchmarks/gpu_language.py --shapes smollm2 llama --rounds 2 --json gpu.json
    python benchmarks/gpu_language.py --shapes tiny --device cpu --rounds 1     # to try the command

Shapes are those of SmolLM2-135M and Llama-3.2-1B, weights are random, bfloat16: speed is valid, and
texts are nonsense. Ways take turns in one process (A B A B), numbers are medians with the least and
the greatest. Graphs and kernels are made before the clock starts, for all ways.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.text_generation import TextGeneration

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2": {
        **{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536},
        **{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    },
    "llama": {
        **{"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192},
        **{"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8},
    },
    "tiny": {
        **{"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    },
}
CACHE = 8 * 2**30  # bytes of ours; theirs takes three tenths of what is free
PAGE = 256  # tokens of theirs, its own choice
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
Work = list[tuple[list[int], int]]  # prompts, and how many tokens follow each
Run = Callable[[Work, Work], float]  # tokens/s of the second; the first makes kernels and graphs


def main() -> int:
    options = read_options()
    transformers.logging.set_verbosity_error()
    report: dict[str, Any] = {"device": device_name(options.device), "torch": torch.__version__}
    print(f"{report['device']}, torch {torch.__version__}, bfloat16", flush=True)
    for shape in options.shapes:
        model, tokenizer = made(shape, options.device)
        report[shape] = {case: measured(case, model, tokenizer, options) for case in options.cases}
        del model
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["smollm2", "llama"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def made(shape: str, device: str) -> tuple[Any, Any]:
    """A model of random weights, and a tokenizer that nobody asks for text."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=8192, tie_word_embeddings=True)
    config.bos_token_id, config.eos_token_id = 1, 2
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"{n}": n for n in range(3, config.vocab_size)}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    return model, PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def measured(
    case: str, model: Any, tokenizer: Any, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Tokens per second of every way, round after round."""
    work, ways, told = CASES[case]
    found: dict[str, list[float]] = {way: [] for way in ways if way in options.ways}
    for turn in range(options.rounds):
        for way in found:
            try:  # other texts each time: what was computed is found again by its beginning
                both = [work(model.config.vocab_size, 2 * turn + i) for i in range(2)]
                with WAYS[way](model, tokenizer) as run:
                    found[way].append(run(*both))
            except Exception as error:  # a peer may not run on this machine: it is told
                print(f"  {case}, {way}: {type(error).__name__}: {error}"[:300], flush=True)
    size = sum(own.numel() for own in model.parameters()) / 1e6
    print(f"\n{told}; {size:.0f} M parameters; tokens/s\n\nway | median | spread\n---|---|---")
    for way, values in found.items():
        if values:
            spread = f"{min(values):.0f}-{max(values):.0f}"
            print(f"{way} | {statistics.median(values):.0f} | {spread}", flush=True)
    return found


@contextmanager
def ours(model: Any, tokenizer: Any) -> Iterator[Run]:
    """Requests of the engine, which does not guess ahead: nonsense repeats itself."""
    cache = CacheOptions(memory=CACHE if model.device.type == "cuda" else 2**26)
    how: dict[str, Any] = {"cache": cache, "speculation": "none"}
    with TextGeneration.load(model, tokenizer=tokenizer, **how) as llm:
        packed = llm.model.packed
        if packed is None:
            raise RuntimeError(llm.model.why_plain)
        if packed.why_unrecorded is not None:
            print(f"  not recorded: {packed.why_unrecorded}")

        def answered(work: Work) -> float:
            began = time.perf_counter()
            requests = [llm.submit(text, max_tokens=number, **GREEDY) for text, number in work]
            drawn = sum(len(one.tokens) for request in requests for one in request.result())
            if drawn != sum(number for _, number in work):
                raise RuntimeError(f"{drawn} tokens came")
            return counted(work) / (time.perf_counter() - began)

        yield lambda first, work: (answered(first), answered(work))[1]


@contextmanager
def continuous(graphs: bool | None, model: Any, tokenizer: Any) -> Iterator[Run]:
    """transformers' continuous batching."""

    def run(first: Work, work: Work) -> float:
        most = max(number for _, number in work)
        greedy = GenerationConfig(
            max_new_tokens=most, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        config = ContinuousBatchingConfig(
            page_size=PAGE, max_memory_percent=0.3, use_cuda_graph=graphs
        )
        manager = model.init_continuous_batching(
            generation_config=greedy, continuous_batching_config=config
        )
        manager.start()
        try:
            asked(manager, first)
            return counted(work) / asked(manager, work)
        finally:
            manager.stop(block=True)

    before = model.config._attn_implementation
    try:
        yield run
    finally:
        model.set_attn_implementation(before)


def asked(manager: Any, work: Work) -> float:
    """Seconds that a manager takes for it."""
    began = time.perf_counter()
    for text, number in work:
        manager.add_request(text, max_new_tokens=number)
    drawn = sum(len(manager.get_result().generated_tokens) for _ in work)
    if drawn != counted(work):
        raise RuntimeError(f"{drawn} tokens came, {counted(work)} were asked for")
    return time.perf_counter() - began


@contextmanager
def generate(model: Any, tokenizer: Any) -> Iterator[Run]:
    """transformers' `generate`, one text after the other."""

    def answered(work: Work) -> float:
        began = time.perf_counter()
        for text, number in work:
            ids = torch.tensor([text], device=model.device)
            more = {"max_new_tokens": number, "min_new_tokens": number, "do_sample": False}
            model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **more).cpu()
        return counted(work) / (time.perf_counter() - began)

    with torch.inference_mode():
        yield lambda first, work: (answered(first), answered(work))[1]


def counted(work: Work) -> int:
    """Tokens of it: those to draw, or of the prompt where only one is drawn."""
    return sum(number if number > 1 else len(text) for text, number in work)


def texts(shapes: list[tuple[int, int]], vocabulary: int, seed: int) -> Work:
    chosen = random.Random(seed)
    return [([chosen.randrange(3, vocabulary) for _ in range(n)], more) for n, more in shapes]


def ragged(vocabulary: int, seed: int) -> Work:
    chosen = random.Random(7)
    shapes = [(chosen.randint(16, 512), chosen.randint(16, 256)) for _ in range(64)]
    return texts(shapes, vocabulary, seed)


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "generate": generate,
    "continuous batching": lambda *given: continuous(None, *given),
    "continuous batching, CUDA graphs": lambda *given: continuous(True, *given),
    "mindsd": ours,
}
BATCHED = ("continuous batching", "continuous batching, CUDA graphs", "mindsd")
CASES: dict[str, tuple[Callable[[int, int], Work], tuple[str, ...], str]] = {
    "stream": (
        lambda *how: texts([(32, 256)], *how),
        ("generate", "mindsd"),
        "one stream, 256 tokens after 32",
    ),
    "batch": (
        lambda *how: texts([(128, 256)] * 32, *how),
        BATCHED,
        "32 requests at once, 256 tokens after 128",
    ),
    "ragged": (ragged, BATCHED, "64 requests of 16-512 tokens, 16-256 new ones"),
    "prompt": (
        lambda *how: texts([(4096, 1)], *how),
        ("generate", "mindsd"),
        "a prompt of 4,096 tokens",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
