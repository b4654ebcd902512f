"""A device that reads pages by tiles, and records: in plain operations, on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from mindsd.attention import for_transformers
from mindsd.attention.paged_call import PagedCall, weigh
from mindsd.attention.registry import Registry
from mindsd.kvcache.step import Segment
from mindsd.kvcache.tiles import Tiles, tile_of, tiles_key, tiles_of


class Tiled:
    """Attention over pages that knows of a step nothing but its tiles."""

    name = "tiled"
    devices = ("cpu",)

    def refuses(self, call: PagedCall) -> str | None:
        return None

    def run(self, call: PagedCall, segments: Sequence[Segment]) -> Tensor:
        tile = tile_of(call.step)
        tiles: Tiles = call.step.plan(
            tiles_key(call.lane, tile), lambda: tiles_of(call.step, call.lane, tile)
        )
        out = call.query.new_full((*call.query.shape[:2], call.values.data.shape[3]), torch.nan)
        for start, count, past, first in tiles.fields.tolist():
            if count:
                out[start : start + count] = _tile(call, tiles, start, count, past, first)
        return out


def _tile(call: PagedCall, tiles: Tiles, start: int, count: int, past: int, first: int) -> Tensor:
    size, total = call.keys.data.shape[2], past + count
    window = call.sight.window
    begin = 0 if window is None else max(0, past - window + 1) // size * size
    blocks = tiles.table[first + begin // size : first + -(-total // size)]
    k, v = (own.read(blocks).flatten(1, 2)[:, : total - begin] for own in (call.keys, call.values))
    groups = call.query.shape[1] // len(k)
    k, v = (own.repeat_interleave(groups, 0) for own in (k, v))
    queries = torch.arange(past, total)[:, None]
    keys = torch.arange(begin, total)[None]
    seen = keys <= queries
    if window is not None:
        seen = seen & (keys > queries - window)
    q = call.query[start : start + count].transpose(0, 1)
    sinks = None if call.sinks is None else call.sinks.view(-1, 1, 1)
    weights = weigh(q @ k.mT * call.scale, seen, call.softcap, sinks)
    return (weights.to(v.dtype) @ v).transpose(0, 1)


class Again:
    """Records by calling again: what is recorded may depend on nothing but its tensors' contents.

    Attributes:
        recorded: how many functions.
        ran: how often they ran again.
    """

    def __init__(self) -> None:
        self.recorded = self.ran = 0

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        out = torch.empty_like(function())

        def again() -> Tensor:
            self.ran += 1
            return out.copy_(function())  # always the same memory, as a graph's

        return again


@contextlib.contextmanager
def tiled_attention() -> Iterator[None]:
    """Language models that are opened inside attend by tiles."""
    registry = Registry(paged=[Tiled()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(for_transformers, "default_registry", lambda: registry)
        yield
