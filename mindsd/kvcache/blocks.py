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
from collections.abc import Sequence
from dataclasses import dataclass

from mindsd.errors import RequestError


class NoBlocks(Exception):
    """There is no room for so many more blocks now; whoever schedules makes some."""


@dataclass(frozen=True)
class Known:
    """What a full block holds.

    Attributes:
        key: the hash of its tokens and of all before them.
        parent: the hash of all before them.
        tokens: ids of its own tokens.
    """

    key: bytes
    parent: bytes
    tokens: tuple[int, ...]


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
        self._known: dict[int, Known] = {}
        self._blocks: dict[bytes, int] = {}
        self._children: dict[bytes, set[int]] = {}

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
        if block in self._known:
            self._cached[block] = None
        else:
            self._free.append(block)

    def name(self, block: int, known: Known) -> int:
        """Know a full block by its hash from now on; the block that already has this hash, if any.

        Two sequences that computed the same tokens at once both keep their own block; only the
        first is found by others.
        """
        first = self._blocks.setdefault(known.key, block)
        if first == block:
            self._known[block] = known
            self._children.setdefault(known.parent, set()).add(block)
        return first

    def find(self, key: bytes) -> int | None:
        """The block with this hash; `hold` it before anything else is taken."""
        return self._blocks.get(key)

    def nearest(self, parent: bytes, tokens: Sequence[int]) -> tuple[bytes, int]:
        """Of the known blocks after `parent` the one that begins most like these tokens.

        Returns:
            its hash, and how many of its leading tokens are the same; b"" and 0 for none.
        """
        found = b"", 0
        for block in self._children.get(parent, ()):
            known = self._known[block]
            pairs = zip(known.tokens, tokens, strict=False)
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
            count = min(len(known.tokens), len(tokens)) if same is None else same
            if count > found[1]:
                found = known.key, count
        return found

    def forget(self) -> None:
        """Let go of everything that is cached: what the model computes has changed."""
        for block in self._cached:
            self._free.append(block)
        self._cached.clear()
        self._known.clear()
        self._blocks.clear()
        self._children.clear()

    def check(self) -> None:
        """Every block is exactly one of free, used, cached, and hashes and blocks agree."""
        free, cached = set(self._free), set(self._cached)
        used = {block for block, count in enumerate(self._references) if count}
        assert len(free) == len(self._free), "a block is free twice"
        assert not (free & cached or free & used or cached & used), "a block has two states"
        assert len(free) + len(cached) + len(used) == self.total, "a block was lost"
        assert cached <= self._known.keys(), "a cached block that nobody can find"
        assert {block: known.key for block, known in self._known.items()} == {
            block: key for key, block in self._blocks.items()
        }
        children = {block for own in self._children.values() for block in own}
        assert children == self._known.keys()

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            self._forget(block)
        self._references[block] = 1
        return block

    def _forget(self, block: int) -> None:
        known = self._known.pop(block)
        del self._blocks[known.key]
        siblings = self._children[known.parent]
        siblings.remove(block)
        if not siblings:
            del self._children[known.parent]
