"""Blocks of the KV cache: numbers that stand for the keys and values of so many tokens each.

A block is free, used (by one sequence or several), or cached: nobody uses it, but what it holds is
still known by its hash (prefix.py) and may be used again until the room is needed.

    free --take--> used --release--> cached --take (oldest first)--> used by somebody else
      ^              |  ^              |
      |   no hash    |  +----hold------+   found by its hash
      +--------------+
"""

from __future__ import annotations

from collections import OrderedDict

from mindsd.errors import RequestError


class NoBlocks(Exception):
    """There is no room for so many more blocks now; whoever schedules makes some."""


class BlockPool:
    """Block numbers 0 to `total` - 1 with their reference counts, and the index of hashes.

    Attributes:
        total: how many blocks there are.
        size: tokens that one block holds.
    """

    def __init__(self, total: int, size: int):
        if total < 1 or size < 1:
            raise RequestError(f"a KV cache needs blocks and tokens in them, got {total} of {size}")
        self.total, self.size = total, size
        self._free = list(range(total - 1, -1, -1))  # the lowest is taken first: pages lie close
        self._references = [0] * total
        self._cached: OrderedDict[int, None] = OrderedDict()  # longest unused first
        self._hashes: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """Blocks that could be taken now: free ones and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many blocks are free, used and cached."""
        free, cached = len(self._free), len(self._cached)
        return free, self.total - free - cached, cached

    def references(self, block: int) -> int:
        """How many sequences use it."""
        return self._references[block]

    def take(self, number: int) -> list[int]:
        """So many blocks for one user, with nothing known of what they hold.

        Raises:
            NoBlocks: there are fewer; none was taken.
        """
        if number > self.available:
            raise NoBlocks(f"{number} blocks are wanted, {self.available} of {self.total} are left")
        return [self._take() for _ in range(number)]

    def hold(self, block: int) -> None:
        """One more user of a block that is used or cached."""
        if self._references[block] == 0:
            del self._cached[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """One user fewer; what a hash is known of stays cached."""
        assert self._references[block] > 0, f"block {block} is released once too often"
        self._references[block] -= 1
        if self._references[block]:
            return
        if block in self._hashes:
            self._cached[block] = None
        else:
            self._free.append(block)

    def name(self, block: int, key: bytes) -> int:
        """Know a full block by its hash from now on; the block that already has this hash, if any.

        Two sequences that computed the same tokens at once both keep their own block; only the
        first is found by others.
        """
        known = self._blocks.setdefault(key, block)
        if known == block:
            self._hashes[block] = key
        return known

    def find(self, key: bytes) -> int | None:
        """The block with this hash; `hold` it before anything else is taken."""
        return self._blocks.get(key)

    def forget(self) -> None:
        """Let go of everything that is cached: what the model computes has changed."""
        for block in self._cached:
            self._free.append(block)
        self._cached.clear()
        self._hashes.clear()
        self._blocks.clear()

    def check(self) -> None:
        """Every block is exactly one of free, used, cached, and hashes and blocks agree."""
        free, cached = set(self._free), set(self._cached)
        used = {block for block, count in enumerate(self._references) if count}
        assert len(free) == len(self._free), "a block is free twice"
        assert not (free & cached or free & used or cached & used), "a block has two states"
        assert len(free) + len(cached) + len(used) == self.total, "a block was lost"
        assert cached <= self._hashes.keys(), "a cached block that nobody can find"
        assert {block: key for key, block in self._blocks.items()} == self._hashes

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            del self._blocks[self._hashes.pop(block)]
        self._references[block] = 1
        return block
