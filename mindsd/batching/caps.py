"""How many rows a group may have: learned where a larger one failed, and slowly forgotten.

Memory that ran out once may be there again later (another program ended, other requests were live),
so a cap that held for a while is doubled and tried anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

PATIENCE = 64  # full groups that go well before a cap is doubled
KEYS = 256  # caps remembered; a key may hold the identity of an object that is gone


@dataclass
class _Cap:
    rows: int
    went_well: int = 0


class Caps:
    """Caps of one batchable method, by the key of its calls."""

    def __init__(self) -> None:
        self._caps: OrderedDict[Hashable, _Cap] = OrderedDict()

    def rows(self, key: Hashable, limit: int) -> int:
        """Rows that a group of this key may have now, at most `limit`."""
        cap = self._caps.get(key)
        return limit if cap is None else min(cap.rows, limit)

    def failed(self, key: Hashable, rows: int) -> None:
        """A larger group failed: from now on at most `rows`."""
        self._caps[key] = _Cap(rows)
        self._caps.move_to_end(key)
        if len(self._caps) > KEYS:
            self._caps.popitem(last=False)

    def went_well(self, key: Hashable, rows: int) -> None:
        """A group of so many rows succeeded."""
        cap = self._caps.get(key)
        if cap is None or 2 * rows <= cap.rows:  # far from full: it says nothing about the cap
            return
        cap.went_well += 1
        if cap.went_well >= PATIENCE:
            cap.rows, cap.went_well = 2 * cap.rows, 0
