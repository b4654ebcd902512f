"""What one call of several decoder layers computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Chain:
    """What one call computed.

    Attributes:
        first: the place of its first layer.
        outs: [1, T, width] of each.
        mask, turn: that the layers were given.
    """

    first: int
    outs: Sequence[Tensor]
    mask: Any
    turn: Any

    def knows(self, place: int, hidden: Tensor, mask: Any, turn: Any) -> bool:
        """Whether it has the answer of a layer that is given this."""
        number = place - self.first
        if not 0 < number < len(self.outs) or hidden is not self.outs[number - 1]:
            return False
        return mask is self.mask and turn is self.turn
