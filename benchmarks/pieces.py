"""Pieces of the language path by themselves: products laid out anew, and attention over pages.

    python benchmarks/pieces.py --rounds 5 --threads 2

Ways take turns (A B A B); numbers are medians over the rounds, and of the ratio, which is noise
where a piece takes microseconds, also the least and the most.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from mindsd.attention.paged import attend, attend_slowly
from mindsd.attention.paged_call import PagedCall, Sight, default_scale
from mindsd.attention.registry import default_registry
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import Lane
from mindsd.prepack import Prepacked

DTYPES = (torch.float32, torch.bfloat16)
ROWS = (1, 4, 16, 64, 512)
SHAPE = (576, 1536)  # SmolLM2-135M's largest layer: inputs, outputs
HEADS, KV_HEADS, DIM, BLOCK = 9, 3, 64, 32
LEAST = 0.05  # seconds that one number is taken over


@torch.inference_mode()
def main() -> int:
    options = read_options()
    torch.set_num_threads(options.threads)
    console = Console(width=100)
    products = Table("rows", *_names(DTYPES), title="one layer of {} to {}, us".format(*SHAPE))
    for rows in ROWS:
        cells = [told(timed(product_ways(rows, dtype), options.rounds)) for dtype in DTYPES]
        products.add_row(str(rows), *cells)
    console.print(products)
    layers = Table("16 sequences of", *_names(DTYPES), title="attention of one layer, us")
    for tokens in (64, 257, 1024):
        cells = [told(timed(attention_ways(tokens, dtype), options.rounds)) for dtype in DTYPES]
        layers.add_row(f"{tokens} tokens", *cells)
    console.print(layers)
    print("each: plain / prepacked, and sequence by sequence / in buckets; the ratio (least-most)")
    return 0


def product_ways(rows: int, dtype: torch.dtype) -> Mapping[str, Callable[[], object]]:
    plain, packed = (nn.Sequential(nn.Linear(*SHAPE, bias=False).to(dtype)) for _ in range(2))
    Prepacked(packed)
    given = torch.randn(1, rows, SHAPE[0]).to(dtype)
    return {"plain": lambda: plain(given), "ours": lambda: packed(given)}


def attention_ways(tokens: int, dtype: torch.dtype) -> Mapping[str, Callable[[], object]]:
    """One new token for each of 16 sequences, whose pages lie in no order."""
    places = -(-tokens // BLOCK)
    order = list(range(16 * places))
    random.Random(0).shuffle(order)
    tables = [order[i * places : (i + 1) * places] for i in range(16)]
    segments = [Segment(i, 1, tokens - 1, [table]) for i, table in enumerate(tables)]
    store = PageStore([len(order)], BLOCK, [0], "auto")
    step = Step(segments, store, [Lane(BlockPool(len(order), BLOCK))], torch.device("cpu"))
    new = torch.randn(len(order) * BLOCK, KV_HEADS, DIM).to(dtype)
    pages = store.of(0, 0, new, new)
    for page in pages:
        page.write(torch.arange(len(new)), new)
    sight = Sight(lambda queries, keys: keys <= queries, causal=True)
    query = torch.randn(16, HEADS, DIM).to(dtype)
    call = PagedCall(query, *pages, step, 0, sight, default_scale(DIM))
    registry = default_registry()
    return {"plain": lambda: attend_slowly(call), "ours": lambda: attend(call, registry)}


def timed(ways: Mapping[str, Callable[[], object]], rounds: int) -> list[list[float]]:
    """Microseconds of each way, one for each round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            work()
            began, count = time.perf_counter(), 0
            while (passed := time.perf_counter() - began) < LEAST:
                work()
                count += 1
            found[name].append(1e6 * passed / count)
    return list(found.values())


def told(found: list[list[float]]) -> str:
    plain, ours = map(statistics.median, found)
    ratios = [before / after for before, after in zip(*found, strict=True)]
    span = f"{min(ratios):.2f}-{max(ratios):.2f}"
    return f"{plain:.0f} / {ours:.0f}  {statistics.median(ratios):.2f}x ({span})"


def _names(dtypes: tuple[torch.dtype, ...]) -> list[str]:
    return [str(dtype).removeprefix("torch.") for dtype in dtypes]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
