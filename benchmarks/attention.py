"""Attention in bfloat16 on this CPU: torch's kernel against ours, in one process.

    python benchmarks/attention.py --rounds 9 --threads 2

Both take turns (A B A B); times are medians over the rounds, in milliseconds. GFLOP/s count the two
products over the pairs of queries and keys that see each other (masks are counted as if all did).
Errors are relative to float64, of the first heads of the first entry. Only the time of a quiet
machine means something, and random numbers only: multiplying zeros takes less power.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mindsd.attention.amx import Amx
from mindsd.attention.contract import Backend, Call, Varlen
from mindsd.attention.cpu import Reference
from mindsd.attention.sdpa import Sdpa

LEAST = 0.01  # seconds that one number is taken over
CHECKED = 2  # key heads whose error is measured
PACKED = (0, 1024, 1280, 2304, 2944, 4096)
SHAPES = {  # B, H, Tq, Tk, D
    "SD1.5 self 64x64": (2, 8, 4096, 4096, 40),
    "SD1.5 cross 64x64": (2, 8, 4096, 77, 40),
    "SD1.5 self 32x32": (2, 8, 1024, 1024, 80),
    "SD1.5 cross 32x32": (2, 8, 1024, 77, 80),
    "SD1.5 self 16x16": (2, 8, 256, 256, 160),
    "SD1.5 cross 16x16": (2, 8, 256, 77, 160),
    "SDXL self 64x64": (2, 10, 4096, 4096, 64),
    "SDXL self 32x32": (2, 20, 1024, 1024, 64),
    "DiT-XL": (2, 16, 1024, 1024, 72),
    "MMDiT, D 64": (1, 24, 4096, 4096, 64),
    "MMDiT, D 128": (1, 24, 4096, 4096, 128),
    "VAE": (1, 1, 4096, 4096, 512),
}


@torch.inference_mode()
def main() -> int:
    options = read_options()
    torch.set_num_threads(options.threads)
    ours, theirs = Amx(), Sdpa()
    table = Table("case", "B H/Hkv Tq Tk D", title=f"{options.threads} threads")
    for head in ("torch ms", "ours ms", "GFLOP/s", "times", "error"):
        table.add_column(head, justify="right")
    for name, call in cases():
        if (reason := ours.refuses(call)) is not None:
            print(f"{name}: {reason}")
            return 1
        torch_time, our_time = timed(theirs, ours, call, options.rounds)
        rate = [flops(call) / seconds / 1e9 for seconds in (torch_time, our_time)]
        errors = [error(backend, call) for backend in (theirs, ours)]
        table.add_row(
            name,
            shape_of(call),
            f"{1e3 * torch_time:.2f}",
            f"{1e3 * our_time:.2f}",
            "{:.0f} / {:.0f}".format(*rate),
            f"{torch_time / our_time:.2f}",
            "{:.1e} / {:.1e}".format(*errors),
        )
    Console(width=110).print(table)
    print("pairs are torch's / ours")
    return 0


def cases() -> Iterator[tuple[str, Call]]:
    """Layers of models as they are, then one of each kind of mask."""
    for name, (batch, heads, queries, keys, dim) in SHAPES.items():
        q, k, v = (drawn(batch, heads, tokens, dim) for tokens in (queries, keys, keys))
        yield name, Call(q, k, v)
        q, k, v = (tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (q, k, v))
        yield "  tokens before heads", Call(q, k, v)
    q, k, v = (drawn(2, 16, 1024, 64) for _ in range(3))
    plain = Call(q, k, v)
    yield "logits of 50", replace(plain, q=3 * q, k=3 * k)
    yield "logits of 1000", replace(plain, q=13 * q, k=13 * k)
    yield "causal", replace(plain, causal=True)
    yield "window of 256", replace(plain, causal=True, window=(255, 0))
    yield "boolean mask", replace(plain, mask=torch.rand(2, 1, 1024, 1024) < 0.7)
    padding = torch.arange(1024) < torch.tensor([[900], [500]])
    yield "padding mask", replace(plain, mask=padding.view(2, 1, 1, 1024))
    bias = torch.randn(1, 16, 1024, 1024)
    yield "bias, float32", replace(plain, mask=bias)
    yield "bias, bfloat16", replace(plain, mask=bias.bfloat16())
    few = drawn(1, 3, 512, 64)
    yield "text, causal", Call(drawn(1, 9, 512, 64), few, few, causal=True)
    few = drawn(1, 3, 2048, 64)
    yield "chunk of a prompt", Call(drawn(1, 9, 256, 64), few, few, causal=True)
    q, k, v = (drawn(1, 16, 4096, 72) for _ in range(3))
    yield "five packed pictures", Call(q, k, v, varlen=Varlen(PACKED, PACKED))


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape).bfloat16()


def timed(first: Backend, second: Backend, call: Call, rounds: int) -> list[float]:
    """Median seconds of each."""
    found: list[list[float]] = [[], []]
    for _ in range(rounds):
        for times, backend in zip(found, (first, second), strict=True):
            times.append(once(lambda own=backend: own.run(call)))
    return [statistics.median(times) for times in found]


def once(work: Callable[[], object]) -> float:
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < LEAST:
        work()
        count += 1
    return passed / count


def flops(call: Call) -> float:
    """Of both products, over the pairs that causality, window and packing leave."""
    each = 2 * call.q.shape[0] * call.q.shape[1] * (call.q.shape[3] + call.v.shape[3])
    left, right = call.band
    if call.varlen is not None:
        bounds = zip(pairwise(call.varlen.q), pairwise(call.varlen.k), strict=True)
        return each * sum((q1 - q0) * (k1 - k0) for (q0, q1), (k0, k1) in bounds)
    queries, keys = call.q.shape[2], call.k.shape[2]
    at = torch.arange(queries) + keys - queries
    low = (at - left).clamp(0, keys) if left >= 0 else torch.zeros_like(at)
    high = (at + right + 1).clamp(0, keys) if right >= 0 else torch.full_like(at, keys)
    return each * int((high - low).sum())


def error(backend: Backend, call: Call) -> float:
    """Relative, in the Euclidean norm, of some heads of the first entry."""
    heads = min(CHECKED * call.groups, call.q.shape[1])
    mask = None if call.mask is None else call.mask[:1, :heads]
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    few = heads // call.groups
    q, k, v = call.q[:1, :heads], call.k[:1, :few], call.v[:1, :few]
    want = Reference().run(replace(call, q=q.double(), k=k.double(), v=v.double(), mask=mask))
    got = backend.run(call)[:1, :heads].double()
    return float((got - want).norm() / want.norm())


def shape_of(call: Call) -> str:
    batch, heads, queries, dim = call.q.shape
    grouped = f"{heads}/{call.k.shape[1]}" if call.groups > 1 else f"{heads}"
    return f"{batch} {grouped} {queries} {call.k.shape[2]} {dim}"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
