"""The tensors behind the blocks: keys and values of every attention layer.

A layer's pages are made when it first writes, from the shapes it writes: head sizes that differ
between layers, values narrower than keys (MLA) and layers that attend twice need no special case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mindsd.device import NPU_CHIPS, npu_chip
from mindsd.errors import RequestError
from mindsd.large_pages import untouched_zeros

from .table import Copy

DTYPES = ("auto", "int8")
SCALE = torch.float32.itemsize
LEVELS = 127  # int8 is used symmetrically


class Pages:
    """Keys or values of one layer: [heads, blocks, size, dim], in the model's dtype or as int8.

    Heads come first, so that neighbouring blocks are one run of tokens: a view, where they are in
    order. As int8 each token of each head has its own scale, float32 [heads, blocks, size, 1]:
    rounding harms by at most half of the token's largest number / 127.
    """

    def __init__(self, blocks: int, size: int, like: Tensor, int8: bool):
        """`like` is [T, heads, dim]."""
        heads, dim = like.shape[1:]
        kind = torch.int8 if int8 else like.dtype
        # Zeros, not empty: what is masked is still multiplied by 0, and 0 * inf is no number.
        self.data = self._zeros((heads, blocks, size, dim), kind, like.device)
        self.scales: Tensor | None = None
        if int8:
            self.scales = self._zeros((heads, blocks, size, 1), torch.float32, like.device)
        self.dtype = like.dtype

    def _zeros(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """[heads, blocks, size, dim], as it is to lie in memory."""
        if device.type == "cpu":
            return untouched_zeros(shape, dtype)
        return torch.zeros(*shape, dtype=dtype, device=device)

    def write_both(self, values: Pages, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Put keys into these pages and values into those of the same layer; see `write`."""
        self.write(slots, key)
        values.write(slots, value)

    def write(self, slots: Tensor, new: Tensor) -> None:
        """Put tokens [T, heads, dim] into slots (block * size + offset), int64 [T]."""
        new = new.transpose(0, 1)
        if self.scales is not None:
            wide = new.float()
            scale = wide.abs().amax(-1, keepdim=True).clamp_(min=1e-12) / LEVELS
            self.scales.flatten(1, 2).index_copy_(1, slots, scale)
            new = (wide / scale).round_().to(torch.int8)
        self.data.flatten(1, 2).index_copy_(1, slots, new)

    def read(self, blocks: Tensor, scratch: Scratch | None = None) -> Tensor:
        """A copy of so many blocks: [heads, N, size, dim], in the model's dtype.

        Args:
            scratch: where to put it, for the same room serves all layers.
        """
        if self.scales is not None:
            data = self.data.index_select(1, blocks)
            return (data * self.scales.index_select(1, blocks)).to(self.dtype)
        if scratch is None:
            return self.data.index_select(1, blocks)
        heads, _, size, dim = self.data.shape
        room = scratch.room((heads, len(blocks), size, dim), self.data)
        return torch.index_select(self.data, 1, blocks, out=room)

    def slice(self, first: int, stop: int) -> Tensor:
        """Neighbouring blocks [heads, stop - first, size, dim]; a view unless they are int8."""
        data = self.data[:, first:stop]
        if self.scales is None:
            return data
        return (data * self.scales[:, first:stop]).to(self.dtype)

    def clear(self, blocks: Tensor) -> None:
        """Zeros in these blocks."""
        for tensor in (self.data, self.scales):
            if tensor is not None:
                tensor.index_fill_(1, blocks, 0)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Whole blocks, for sequences that part."""
        for tensor in (self.data, self.scales):
            if tensor is not None:
                tensor[:, targets] = tensor[:, sources]


class Scratch:
    """Room that is used again and again: fresh memory is paid for page by page."""

    def __init__(self) -> None:
        self._room: Tensor | None = None

    def room(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of this shape and of the other's dtype and device, with anything in it."""
        number, room = math.prod(shape), self._room
        fits = room is not None and room.dtype is like.dtype and room.device == like.device
        if room is None or not fits or room.numel() < number:
            self._room = room = like.new_empty(number)
        return room[:number].view(shape)


class NpuPages(Pages):
    """Pages as the attention operators of Ascend NPUs read them: [blocks, size, heads, dim].

    To everybody else they look like others: `data` is a view of them with the heads first.
    """

    def _zeros(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        heads, blocks, size, dim = shape
        rows = torch.zeros(blocks, size, heads, dim, dtype=dtype, device=device)
        return rows.permute(2, 0, 1, 3)

    @property
    def rows(self) -> Tensor:
        """[blocks, size, heads, dim], contiguous; no copy."""
        return self.data.permute(1, 2, 0, 3)

    def write_both(self, values: Pages, slots: Tensor, key: Tensor, value: Tensor) -> None:
        if self.scales is not None or not isinstance(values, NpuPages):
            super().write_both(values, slots, key, value)
            return
        torch.ops.npu.npu_scatter_pa_kv_cache(
            key.contiguous(), value.contiguous(), self.rows, values.rows, slots, cache_mode="Norm"
        )


def page_kind(device: torch.device) -> type[Pages]:
    """The pages that are fast on a device; a 310P has no operators that read or write pages."""
    npu = device.type == "npu" and npu_chip(device.index or 0) in NPU_CHIPS
    return NpuPages if npu else Pages


class PageStore:
    """The pages of all layers.

    Args:
        blocks: how many blocks each lane has.
        size: tokens that a block holds.
        lane_of: the lane of each layer, by layer index.
        dtype: "auto" (as the model computes) or "int8".
        kind: of pages, by the device that they are to lie on.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        size: int,
        lane_of: Sequence[int],
        dtype: str,
        kind: Callable[[torch.device], type[Pages]] | None = None,
    ):
        if dtype not in DTYPES:
            raise RequestError(f"the KV cache's dtype must be {' or '.join(DTYPES)}, got {dtype!r}")
        self.blocks, self.size, self.lane_of = tuple(blocks), size, tuple(lane_of)
        self._int8 = dtype == "int8"
        self._kind = kind or page_kind
        self._pages: dict[tuple[int, int], tuple[Pages, Pages]] = {}
        self._scratches: dict[int, Scratch] = {}

    def scratch(self, number: int) -> Scratch:
        """Room that belongs to nobody between two calls; keys and values have one each."""
        return self._scratches.setdefault(number, Scratch())

    def of(self, layer: int, call: int, key: Tensor, value: Tensor) -> tuple[Pages, Pages]:
        """Keys' and values' pages of a layer's `call`-th attention in a forward.

        Args:
            key, value: [T, heads, dim], as they will be written.
        """
        pages = self._pages.get((layer, call))
        if pages is None:
            blocks, kind = self.blocks[self.lane_of[layer]] + 1, self._kind(key.device)
            pages = tuple(kind(blocks, self.size, new, self._int8) for new in (key, value))
            self._pages[layer, call] = pages = (pages[0], pages[1])
        return pages

    def spare(self, lane: int) -> int:
        """A block beyond those of the lane, for tokens that are nobody's."""
        return self.blocks[lane]

    def copy(self, copies: Sequence[Copy]) -> None:
        """Carry out what a table's `reserve` asked for."""
        for lane in {copy.lane for copy in copies}:
            own = [copy for copy in copies if copy.lane == lane]
            sources = torch.tensor([copy.source for copy in own])
            targets = torch.tensor([copy.target for copy in own])
            for (layer, _), pages in self._pages.items():
                if self.lane_of[layer] == lane:
                    for page in pages:
                        page.copy(sources.to(page.data.device), targets.to(page.data.device))

    def make_finite(self) -> None:
        """Zeros for what is no number, or infinite: what is masked may be read from now on."""
        for pages in self._pages.values():
            for page in pages:
                if page.data.is_floating_point():
                    page.data.nan_to_num_(0, 0, 0)

    def clear(self, lane: int, blocks: Sequence[int]) -> None:
        """Zeros in these blocks of a lane."""
        if not blocks:
            return
        for (layer, _), pages in self._pages.items():
            if self.lane_of[layer] == lane:
                where = torch.tensor(blocks, device=pages[0].data.device)
                for page in pages:
                    page.clear(where)

    def token_bytes(self) -> dict[str, int]:
        """What a token takes in all layers that have written, by the cache's dtype."""
        pages = [page for both in self._pages.values() for page in both]
        sizes = [(page.data.shape[0], page.data.shape[3], page.dtype.itemsize) for page in pages]
        return {
            "auto": sum(heads * dim * width for heads, dim, width in sizes),
            "int8": sum(heads * (dim + SCALE) for heads, dim, _ in sizes),
        }
