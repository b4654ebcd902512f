"""Attention over pages on NVIDIA GPUs, by kernels of our own in Triton (paged_triton_kernels.py).

One launch answers for all sequences of a step, whatever their lengths; where they are few, their
keys are divided among programs and a second launch joins what came out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mindsd.kvcache.pages import Pages
from mindsd.kvcache.step import Segment
from mindsd.kvcache.tiles import Tiles, tile_of, tiles_key, tiles_of

from .paged_call import PagedCall, no_sight

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MOST_DIM = 256
ROWS = 16  # the fewest of a product on tensor cores
MOST_ROWS = 128  # of a product: a row is a token's head
KEYS = 64  # of a tile
LONG_DIM = 128  # beyond it a tile has half of the keys, for registers
PROGRAMS = 256  # that keep a large GPU busy
MOST_SPLITS = 16


class TritonPaged:
    """Causal and windowed attention over plain pages.

    Args:
        devices: kinds of devices whose tensors it takes. A CPU is for Triton's interpreter
            (TRITON_INTERPRET=1), which tests use.
    """

    name = "triton pages"

    def __init__(self, devices: Sequence[str] = ("cuda",)) -> None:
        self.devices = tuple(devices)

    def refuses(self, call: PagedCall) -> str | None:
        """Why a call cannot be computed exactly; segments with pictures are no part of it."""
        if call.query.device.type not in self.devices:
            return f"pages are on {call.query.device.type}, it computes on cuda only"
        if self._absent is not None:
            return self._absent
        return no_sight(call) or _no_layout(call)

    def run(self, call: PagedCall, segments: Sequence[Segment]) -> Tensor:
        """[T, H, Dv] in the query's dtype; rows of segments with pictures hold anything."""
        tile = tile_of(call.step)
        tiles: Tiles = call.step.plan(
            tiles_key(call.lane, tile), lambda: tiles_of(call.step, call.lane, tile)
        )
        heads, wide = call.query.shape[1], call.values.data.shape[3]
        out = call.query.new_empty(call.query.shape[0], heads, wide)
        splits = _splits(len(tiles) * call.keys.data.shape[0]) if tile == 1 else 1
        self._launch(call, tiles, out, splits)
        return out

    def _launch(self, call: PagedCall, tiles: Tiles, out: Tensor, splits: int) -> None:
        rows, wide = out.shape[0] * out.shape[1], out.shape[2]
        part = sums = out
        if splits > 1:
            part = out.new_empty(rows * splits * wide, dtype=torch.float32)
            sums = out.new_empty(rows * splits * 2, dtype=torch.float32)
        facts = _facts(call, tiles, splits)
        parts = -(-facts["GROUPS"] // facts["TOGETHER"])
        attend_tiles, join_parts = self._kernels
        grid = (len(tiles), call.keys.data.shape[0] * parts, splits)
        attend_tiles[grid](*_tensors(call), tiles.fields, tiles.table, out, part, sums, **facts)
        if splits > 1:
            how = {"DV": wide, "WIDE_V": _power(wide), "MOST": MOST_SPLITS}
            join_parts[(rows,)](part, sums, out, splits, **how)

    @cached_property
    def _absent(self) -> str | None:
        """Why there are no kernels here."""
        return None if importlib.util.find_spec("triton") else "Triton is not installed"

    @cached_property
    def _kernels(self) -> tuple[Any, Any]:
        from . import paged_triton_kernels as own  # heavy, and optional

        return own.attend_tiles, own.join_parts


def _tensors(call: PagedCall) -> list[Tensor]:
    """The kernel's first arguments; what a call has not is not read."""
    keys, values, query = call.keys, call.values, call.query
    key_scales = query if keys.scales is None else keys.scales
    value_scales = query if values.scales is None else values.scales
    sinks = query if call.sinks is None else call.sinks
    return [query, keys.data, values.data, key_scales, value_scales, sinks]


def _facts(call: PagedCall, tiles: Tiles, splits: int) -> dict[str, Any]:
    """Its other arguments."""
    keys, values, heads = call.keys.data, call.values.data, call.query.shape[1]
    groups, dim, wide = heads // keys.shape[0], keys.shape[3], values.shape[3]
    together = min(groups, MOST_ROWS // tiles.most)
    return {
        "scale": call.scale,
        "softcap": call.softcap or 0.0,
        "window": call.sight.window or 0,
        "query_token": call.query.stride(0),
        "query_head": call.query.stride(1),
        "key_head": keys.stride(0),
        "key_block": keys.stride(1),
        "value_head": values.stride(0),
        "value_block": values.stride(1),
        "SIZE": keys.shape[2],
        "D": dim,
        "DV": wide,
        "WIDE": _power(dim),
        "WIDE_V": _power(wide),
        "GROUPS": groups,
        "TOGETHER": together,
        "ROWS": _power(together * tiles.most),
        "KEYS": KEYS if dim <= LONG_DIM else KEYS // 2,
        "SPLIT": splits > 1,
        "INT8": call.keys.scales is not None,
        "CAPPED": call.softcap is not None,
        "WINDOWED": call.sight.window is not None,
        "SUNK": call.sinks is not None,
        "PRECISION": "ieee" if call.query.dtype is torch.float32 else "tf32",
    }


def _splits(programs: int) -> int:
    """Among how many programs the keys of a tile of one token are divided."""
    return min(MOST_SPLITS, -(-PROGRAMS // programs))


def _power(number: int) -> int:
    """The next power of two; products have sides of at least 16."""
    return max(ROWS, 1 << (number - 1).bit_length())


def _no_layout(call: PagedCall) -> str | None:
    if call.query.dtype not in DTYPES:
        return f"it computes float16, bfloat16 and float32, not {call.query.dtype}"
    if type(call.keys) is not Pages or not call.keys.data.is_contiguous():
        return "the pages are not plain ones"
    if call.query.stride(2) != 1:
        return "a query's numbers lie apart"
    if call.keys.dtype is not call.query.dtype:
        return f"queries are {call.query.dtype}, pages {call.keys.dtype}"
    wide = max(call.dim, call.values.data.shape[3])
    if wide > MOST_DIM:
        return f"heads have at most {MOST_DIM} numbers, got {wide}"
    return None
