"""Where packed weights lie."""

from __future__ import annotations

import torch
from torch import Tensor

from mindsd.large_pages import ask_large_pages

BYTE = torch.uint8
LINE = 64  # bytes of a cache line
SHELF = 64 * 2**20  # bytes


class Shelf:
    """Room for packed weights in large pieces, so that large pages can lie behind them."""

    def __init__(self, size: int = SHELF):
        self._size, self._piece, self._used = size, torch.empty(0, dtype=BYTE), 0

    def keep(self, own: Tensor) -> Tensor:
        """A copy that lies there."""
        if self._used + own.nbytes > self._piece.numel():
            self._piece, self._used = torch.empty(max(self._size, own.nbytes), dtype=BYTE), 0
            ask_large_pages(self._piece)
        copy = self._piece[self._used : self._used + own.nbytes].view(own.dtype).view(own.shape)
        self._used += -(-own.nbytes // LINE) * LINE
        return copy.copy_(own)


def aligned(room: Tensor) -> int:
    """The first address in it that is a multiple of a cache line."""
    return -(-room.data_ptr() // LINE) * LINE
