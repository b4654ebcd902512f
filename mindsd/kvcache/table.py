"""The blocks of one sequence, in the order of its tokens, lane by lane.

Layers that see all tokens and layers that see a window of them lie in lanes of their own, so that a
window that moves on gives its blocks back though other layers still need theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .blocks import BlockPool, Known, NoBlocks
from .prefix import chained

WORTH = 4  # a block is copied for at least its size / 4 tokens
GONE = -1  # in a table: the sequence no longer sees these tokens, their block was given back


@dataclass(frozen=True)
class Lane:
    """Layers that see the same tokens.

    Attributes:
        pool: the blocks of these layers.
        window: how many tokens back a token sees, itself included; None for all of them.
    """

    pool: BlockPool
    window: int | None = None


@dataclass(frozen=True)
class Copy:
    """What must be copied before the next forward, for a block that others use, too."""

    lane: int
    source: int
    target: int


class BlockTable:
    """Which blocks hold a sequence's tokens; they are held until `free`.

    Attributes:
        blocks: block numbers of each lane; `GONE` where a window has moved on.
    """

    def __init__(self, lanes: Sequence[Lane], root: bytes):
        self.lanes = lanes
        self.size = lanes[0].pool.size
        self.blocks: list[list[int]] = [[] for _ in lanes]
        self._root = root
        self._chain: list[bytes] = []  # hashes of the leading full blocks

    @property
    def holds_any(self) -> bool:
        """Whether it holds a block at all."""
        return any(block != GONE for blocks in self.blocks for block in blocks)

    def owns(self, copy: Copy) -> bool:
        """Whether a copy was made for this table."""
        return copy.target in self.blocks[copy.lane]

    def reuse(self, tokens: Sequence[int]) -> tuple[int, list[Copy]]:
        """Start with the longest prefix that is already computed.

        Whole blocks are used where they are; of a block that only begins with the tokens a copy is
        made. At least one token is left to compute, for its logits say how to go on.

        Returns:
            how many tokens it has, and what must be copied before they are read.
        """
        assert not self._chain and not self.blocks[0]
        chain: list[bytes] = []
        known = self.lanes[0].pool if self.lanes[0].window is None else None
        for start in range(0, len(tokens) - self.size, self.size):
            parent = chain[-1] if chain else self._root
            key = chained(parent, tokens[start : start + self.size])
            if known is not None and known.find(key) is None:
                break
            chain.append(key)
        count = self._reusable(chain)
        self._chain = chain[:count]
        for lane, blocks in zip(self.lanes, self.blocks, strict=True):
            first = self._first_seen(lane, count)
            blocks += [GONE] * first
            for key in self._chain[first:]:
                block = lane.pool.find(key)
                assert block is not None
                lane.pool.hold(block)
                blocks.append(block)
        more, copies = self._begun(tokens[count * self.size : -1])
        return count * self.size + more, copies

    def _begun(self, rest: Sequence[int]) -> tuple[int, list[Copy]]:
        """A copy of the block that begins with the rest of the tokens: how many, and the copies."""
        parent = self._chain[-1] if self._chain else self._root
        key, count = self.lanes[0].pool.nearest(parent, rest[: self.size])
        sources = [lane.pool.find(key) for lane in self.lanes]
        if WORTH * count < self.size or None in sources:
            return 0, []
        copies = []
        for number, (lane, source) in enumerate(zip(self.lanes, sources, strict=True)):
            assert source is not None
            lane.pool.hold(source)  # not to be the one that is taken
            try:
                [target] = lane.pool.take(1)
            except NoBlocks:
                lane.pool.release(source)
                self.cut(len(self._chain) * self.size)
                return 0, []
            lane.pool.release(source)
            self.blocks[number].append(target)
            copies.append(Copy(number, source, target))
        return count, copies

    def reserve(self, start: int, stop: int) -> list[Copy]:
        """Make room to write the tokens from `start` to `stop`.

        A block that is written to and used by others, too, is replaced by a copy.

        Raises:
            NoBlocks: there is not enough room; nothing was changed.
        """
        first = start // self.size
        shared = [self._shared(place, first) for place in range(len(self.lanes))]
        missing = -(-stop // self.size) - len(self.blocks[0])
        wanted = [max(0, missing) + len(own) for own in shared]
        for lane, number in zip(self.lanes, wanted, strict=True):
            if number > lane.pool.available:
                raise NoBlocks(f"{number} blocks are wanted, {lane.pool.available} are left")
        copies = []
        for number, (lane, own) in enumerate(zip(self.lanes, shared, strict=True)):
            blocks, fresh = self.blocks[number], lane.pool.take(wanted[number])
            for place in own:
                copies.append(Copy(number, blocks[place], fresh[-1]))
                lane.pool.release(blocks[place])
                blocks[place] = fresh.pop()
            blocks += fresh
        return copies

    def computed(self, tokens: Sequence[int], count: int) -> None:
        """The first `count` of the tokens are written: full blocks may be found by others, and
        those that no token to come will see are given back."""
        while (len(self._chain) + 1) * self.size <= count:
            place = len(self._chain)
            parent = self._chain[-1] if self._chain else self._root
            own = tokens[place * self.size : (place + 1) * self.size]
            known = Known(chained(parent, own), parent, tuple(own))
            self._chain.append(known.key)
            for lane, blocks in zip(self.lanes, self.blocks, strict=True):
                if blocks[place] != GONE:
                    lane.pool.name(blocks[place], known)
        for lane, blocks in zip(self.lanes, self.blocks, strict=True):
            if lane.window is not None:
                self._forget(lane, blocks, count - lane.window + 1)

    def fork(self) -> BlockTable:
        """Another sequence that begins with the same tokens, in the same blocks."""
        twin = BlockTable(self.lanes, self._root)
        twin.blocks = [list(blocks) for blocks in self.blocks]
        twin._chain = list(self._chain)
        for lane, blocks in zip(self.lanes, self.blocks, strict=True):
            for block in blocks:
                if block != GONE:
                    lane.pool.hold(block)
        return twin

    def cut(self, count: int) -> None:
        """Only the first `count` tokens stay: blocks beyond them are given back."""
        keep = -(-count // self.size)
        for lane, blocks in zip(self.lanes, self.blocks, strict=True):
            # The last block first: what is cached longest is forgotten first, so from the ends.
            while len(blocks) > keep:
                if (block := blocks.pop()) != GONE:
                    lane.pool.release(block)
        del self._chain[count // self.size :]

    def free(self) -> None:
        """Give everything back."""
        self.cut(0)

    def _shared(self, lane: int, first: int) -> list[int]:
        """Places from `first` on whose block others use, too."""
        blocks, pool = self.blocks[lane], self.lanes[lane].pool
        return [place for place in range(first, len(blocks)) if pool.references(blocks[place]) > 1]

    def _reusable(self, chain: list[bytes]) -> int:
        """The most leading blocks of which every lane still has those that it sees."""
        windowed = [lane for lane in self.lanes if lane.window is not None]
        for count in range(len(chain), 0, -1):  # lanes without a window have all of the chain
            if all(
                lane.pool.find(key) is not None
                for lane in windowed
                for key in chain[self._first_seen(lane, count) : count]
            ):
                return count
        return 0

    def _first_seen(self, lane: Lane, count: int) -> int:
        """Of `count` full blocks the first that the token after them sees."""
        if lane.window is None:
            return 0
        return max(0, count * self.size - lane.window + 1) // self.size

    def _forget(self, lane: Lane, blocks: list[int], position: int) -> None:
        stop = min(max(0, position) // self.size, len(blocks))
        first = stop
        while first and blocks[first - 1] != GONE:
            first -= 1
        for place in range(first, stop):  # the first block first: later ones are found more often
            lane.pool.release(blocks[place])
            blocks[place] = GONE
