"""Which tokens go into the next forward of a language model.

One token of every sequence that is decoding, and pieces of prompts as far as the budget reaches.
Half of what is left for prompts goes to the oldest, the other half to those that have least to do:
a short prompt is not kept waiting by a long one before it, and the long one is never starved.

When there are no blocks for an older sequence, the youngest gives all of its own back and is
computed again later (recomputation, as in vLLM, arXiv:2309.06180). The oldest always goes on, so
every sequence comes to its end.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, replace

from mindsd.errors import RequestError
from mindsd.kvcache.blocks import NoBlocks
from mindsd.kvcache.table import Copy

from .chunk import Chunk
from .sequence import Sequence

PATIENCE = 64  # forwards that go well before more tokens are tried again


@dataclass(frozen=True)
class Budget:
    """How much one forward takes on.

    Attributes:
        tokens: at most, drafts included. More hardly computes faster, but whoever comes meanwhile
            waits longer for a first token.
        sequences: at most.
    """

    tokens: int = 256
    sequences: int = 256

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.sequences < 1:
            raise RequestError(f"a forward takes at least one token of one sequence, got {self}")


@dataclass
class Cap:
    """Tokens of a forward, after memory has run out: halved at once, doubled back slowly."""

    tokens: int | None = None
    good: int = 0

    def of(self, budget: Budget) -> Budget:
        """The budget, as far as it is known to fit."""
        if self.tokens is not None and self.tokens >= budget.tokens:
            self.tokens = None
        return budget if self.tokens is None else replace(budget, tokens=self.tokens)

    def failed(self, tokens: int) -> None:
        """A forward of so many did not fit; more than the budget, where an image is over it."""
        half = max(1, tokens // 2)
        self.tokens, self.good = half if self.tokens is None else min(half, self.tokens), 0

    def went_well(self) -> None:
        """A forward did."""
        self.good += 1
        if self.tokens is not None and self.good >= PATIENCE:
            self.tokens, self.good = 2 * self.tokens, 0


@dataclass
class Batch:
    """What goes into one forward.

    Attributes:
        chunks: in the order of their sequences' age.
        copies: of blocks, to be made first.
        refused: sequences that can never go on, for there are too few blocks even for them alone.
    """

    chunks: list[Chunk]
    copies: list[Copy]
    refused: list[Sequence]


def next_batch(sequences: Many[Sequence], budget: Budget) -> Batch:
    """The next forward of these sequences.

    It is empty only where all are refused, or have nothing left to compute: a prompt that draws
    nothing may be found in the cache as a whole.
    """
    plan = _Plan(sorted(sequences, key=lambda own: own.order), budget)
    plan.decode()
    plan.prefill()
    plan.chunks.sort(key=lambda chunk: chunk.sequence.order)
    return Batch(plan.chunks, plan.copies, plan.refused)


class _Plan:
    def __init__(self, oldest_first: list[Sequence], budget: Budget):
        self.chunks: list[Chunk] = []
        self.copies: list[Copy] = []
        self.refused: list[Sequence] = []
        self._waiting = oldest_first
        self._tokens = budget.tokens
        self._places = budget.sequences

    def decode(self) -> None:
        """Those with one token to compute, with as much of their draft as there is room for."""
        ready = [own for own in self._waiting if own.left == 1 and own.computed]
        spare = self._tokens - len(ready)  # a draft never takes another's only token
        for own in ready:
            if own.computed:  # else it was preempted meanwhile, for an older one
                draft = min(len(own.draft), max(0, spare))
                spare -= draft if self._add(own, 1 + draft) else 0

    def prefill(self) -> None:
        """Pieces of prompts: half for the oldest, then for those with least to do."""
        taken = {chunk.sequence for chunk in self.chunks}
        ready = [own for own in self._waiting if own not in taken and own.left > 0]
        if not ready:
            return
        oldest = ready[0]
        shortest = sorted(ready[1:], key=lambda own: (-own.priority, own.left, own.number))
        self._prefill(oldest, -(-self._tokens // 2) if shortest else self._tokens, over=True)
        for own in shortest:
            self._prefill(own, self._tokens)
        first = next((chunk for chunk in self.chunks if chunk.sequence is oldest), None)
        if first is not None and self._tokens > 0 and first.stop < oldest.target:
            self._take_back(first)  # what the short ones left is the oldest's, too
            self._prefill(oldest, self._tokens, over=True)

    def _prefill(self, own: Sequence, most: int, *, over: bool = False) -> None:
        if self._tokens < 1 or self._places < 1:
            return
        begins = not own.table.holds_any
        copies: list[Copy] = []
        if begins:
            if own is not self._waiting[0] and not self._has_room(own):
                return
            found, copies = own.table.reuse(own.names)
            own.computed = min(found, own.target)
            own.reused = own.computed if not own.preempted else own.reused
        if own.left and not self._add(own, min(own.left, most), over=over) and begins:
            own.release()
        else:
            self.copies += copies

    def _has_room(self, own: Sequence) -> bool:
        """Whether all of its tokens fit, and one more block for each that is running: whoever
        begins only to be preempted is work for nothing."""
        wanted = len(own.tokens) // own.table.size + 1
        running = sum(other.table.holds_any for other in self._waiting)
        return all(lane.pool.available >= wanted + running for lane in own.table.lanes)

    def _add(self, own: Sequence, length: int, *, over: bool = False) -> bool:
        """Give it a place if there are blocks, or can be; whether it got one.

        Args:
            over: an image that cannot be divided may take more tokens than the budget has.
        """
        start = own.computed
        length = own.whole(start, min(length, self._tokens))
        if length < 1 or self._places < 1 or own in self.refused:
            return False
        if length > self._tokens and not over:
            return False
        while True:
            try:
                self.copies += own.table.reserve(start, start + length)
                break
            except NoBlocks:
                if not self._make_room(own):
                    smaller = own.whole(start, length // 2)
                    if not 0 < smaller < length:
                        self._refuse(own)
                        return False
                    length = smaller  # a window gives blocks back as it moves on
        draws = own.draws is not None and start + length >= own.target
        self.chunks.append(Chunk(own, start, start + length, draws))
        self._tokens -= length
        self._places -= 1
        return True

    def _make_room(self, own: Sequence) -> bool:
        """Preempt the youngest that holds blocks; False when there is none younger than `own`."""
        holders = [other for other in self._waiting if other.table.holds_any]
        if holders and holders[-1].order > own.order:
            self._preempt(holders[-1])
            return True
        return False

    def _refuse(self, own: Sequence) -> None:
        """It can never go on where nobody else holds a block that could come free."""
        if not any(other.table.holds_any for other in self._waiting if other is not own):
            self.refused.append(own)

    def _preempt(self, own: Sequence) -> None:
        for chunk in self.chunks:
            if chunk.sequence is own:
                self._take_back(chunk)
                break
        self.copies = [copy for copy in self.copies if not own.table.owns(copy)]
        own.release()
        own.draft.clear()
        own.preempted += 1

    def _take_back(self, chunk: Chunk) -> None:
        self.chunks.remove(chunk)
        self._tokens += chunk.length
        self._places += 1
