"""Runs a language model for all sequences that wait: one packed forward, then a token for each.

A request asks for its sequences to go on (`Ask`) and is suspended. Each turn takes what fits into
one forward; requests whose sequences came to something are resumed, the others go on waiting.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Sequence as Many
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from mindsd.batching.advance import Went, advance
from mindsd.batching.chunk import Chunk, pack
from mindsd.batching.coroutine import Outcome
from mindsd.batching.counts import TokenCounts
from mindsd.batching.sequence import Sequence
from mindsd.batching.tokens import Budget, Cap, next_batch
from mindsd.device import free_cached, is_out_of_memory
from mindsd.errors import OutOfMemory, RequestError
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Step, stepping
from mindsd.kvcache.table import Copy, Lane

KIND = "language"


class Proposer(Protocol):
    """Guesses how sequences go on (speculative/)."""

    def propose(self, sequences: Many[Sequence]) -> None:
        """Set `draft` of each, all with one token to compute; empty where there is no guess."""
        ...


@dataclass(frozen=True, eq=False)
class Ask:
    """What a suspended request waits for: that its sequences go on.

    Its outcome is a list of (sequence, drawn tokens), for those that went on; a sequence that draws
    nothing is in it when its prompt is computed.
    """

    runner: TokenRunner
    sequences: tuple[Sequence, ...]

    @property
    def kind(self) -> str:
        return KIND

    @property
    def rows(self) -> int:
        return 0

    def limit(self, rows: int) -> int:
        """No bound on rows: the runner's budget is one of tokens."""
        return rows

    def fits(self, other: Any) -> bool:
        return isinstance(other, Ask) and other.runner is self.runner


@dataclass(eq=False)
class TokenRunner:
    """One language model with its cache.

    Attributes:
        forward: (ids [1, T], positions [1, T], index [R]) -> logits [R, V] of these tokens; called
            inside a step. Where some of the tokens stand for images it is also given `features`,
            what is seen in their place: a tuple of [n, dim].
        draw: (logits [R, V], rows) -> one drawn token for each.
        pages, lanes: the cache.
        budget: of one forward.
        device: of the model.
        proposer: guesses ahead; None for no speculation.
        axes: of positions; with 4 they are [4, 1, T]: of the text, and in time, height and width.
        image_token: the id that stands for images; nobody can say it, for there would be nothing
            to be seen in its place. None for a model of text alone.
        clears: blocks are cleared before they are begun, for attention reads what it masks.
    """

    forward: Callable[..., Tensor]
    draw: Callable[[Tensor, Many[Any]], Many[Any]]
    pages: PageStore
    lanes: Many[Lane]
    budget: Budget = Budget()
    device: torch.device = torch.device("cpu")
    proposer: Proposer | None = None
    axes: int = 1
    image_token: int | None = None
    clears: bool = True
    counts: TokenCounts = field(default_factory=TokenCounts)
    _cap: Cap = field(default_factory=Cap)

    def run(self, asks: Many[Ask]) -> list[Outcome | None]:
        """One turn: the outcome of every ask, None where it goes on waiting."""
        sequences = [own for ask in asks for own in ask.sequences]
        self._propose([own for own in sequences if own.draws and own.computed and own.left == 1])
        before = sum(own.preempted for own in sequences)
        batch = next_batch(sequences, self._cap.of(self.budget))
        self.counts.preempted += sum(own.preempted for own in sequences) - before
        went: Went = {own: _too_long(own) for own in batch.refused}
        went |= self._copied(batch.copies, sequences)
        went |= {own: [] for own in sequences if own.left == 0 and own not in went}
        chunks = [chunk for chunk in batch.chunks if chunk.sequence not in went]
        if chunks:
            went |= self._attempt(chunks)
        return [_outcome(ask, went) for ask in asks]

    def _propose(self, ready: list[Sequence]) -> None:
        """Drafts save time only: a proposer that fails is not asked again."""
        if self.proposer is None or not ready:
            return
        try:
            self.proposer.propose(ready)
            for own in ready:
                if self.image_token in own.draft:
                    own.draft = own.draft[: own.draft.index(self.image_token)]
        except Exception as error:
            self.proposer = None
            for own in ready:
                own.draft = []
            with suppress(RuntimeWarning):  # where warnings are errors it is no request's error
                warnings.warn(f"speculation ended: {error}", RuntimeWarning, stacklevel=2)

    def _copied(self, copies: list[Copy], sequences: Many[Sequence]) -> dict[Sequence, Exception]:
        """Make the copies; the error of those sequences that must do without theirs."""
        try:
            self.pages.copy(copies)
            return {}
        except Exception as error:
            hurt = [own for own in sequences if any(own.table.owns(copy) for copy in copies)]
            return dict.fromkeys(hurt, error)

    def check(self) -> None:
        """While no request is live: no block is lost, and none is held."""
        for lane in self.lanes:
            lane.pool.check()
            assert lane.pool.counts[1] == 0, "a request that ended still holds blocks"

    def _attempt(self, chunks: list[Chunk]) -> Went:
        """Run chunks; where that fails, each by itself: the error is the culprit's alone.

        Writing the same keys and values again does no harm. Memory that runs out makes the next
        forwards smaller; an image that cannot be divided may be what does not fit, so it is tried
        by itself.
        """
        try:
            logits = self._run(chunks)
        except Exception as error:
            ran_out = is_out_of_memory(error)
            if len(chunks) == 1 and not (ran_out and chunks[0].divisible):
                return {chunks[0].sequence: _explain(error, chunks[0])}
        else:
            self._cap.went_well()
            return advance(chunks, logits, self.draw, self.counts)
        # Outside the handler: the failed forward's frames, and the memory they hold, are gone here.
        if ran_out:
            free_cached()
            self._cap.failed(sum(chunk.length for chunk in chunks))
            if all(chunk.length == 1 or chunk.divisible for chunk in chunks):
                return {}  # they are asked for again, in smaller forwards
        went: Went = {}
        for chunk in chunks:
            went |= self._attempt([chunk])
        return went

    def _run(self, chunks: Many[Chunk]) -> Tensor:
        """The logits of all that draw, [R, V], behind each other."""
        if self.clears or getattr(self.forward, "clears", False):  # a forward may find out
            self._clear(chunks)
        packed = pack(chunks, self.device, self.axes)
        step = Step(packed.segments, self.pages, self.lanes, self.device)
        seen = {"features": packed.features} if packed.features else {}
        with stepping(step):
            logits = self.forward(packed.ids, packed.positions, packed.index, **seen)
        if self.image_token is not None:
            logits[:, self.image_token] = -torch.inf
        self.counts.forwards += 1
        self.counts.computed += packed.ids.shape[1]
        return logits

    def _clear(self, chunks: Many[Chunk]) -> None:
        """Blocks that are begun and not filled: what lay there before may be no numbers, and
        spreads even where it is masked."""
        size = self.pages.size
        for lane in range(len(self.lanes)):
            begun = [
                chunk.sequence.table.blocks[lane][chunk.stop // size]
                for chunk in chunks
                if chunk.stop % size and chunk.start <= chunk.stop // size * size
            ]
            self.pages.clear(lane, begun)


def _outcome(ask: Ask, went: Went) -> Outcome | None:
    found = [(own, went[own]) for own in ask.sequences if own in went]
    error = next((result for _, result in found if isinstance(result, Exception)), None)
    if error is not None:
        return Outcome(error=error)
    return Outcome(found) if found else None


def _too_long(own: Sequence) -> Exception:
    room = min(lane.pool.total for lane in own.table.lanes) * own.table.size
    return RequestError(
        f"a text of {len(own.tokens)} tokens does not fit into the KV cache of {room} tokens; ask "
        "for fewer tokens, or load the model with a larger cache"
    )


def _explain(error: Exception, chunk: Chunk) -> Exception:
    if not is_out_of_memory(error):
        return error
    return OutOfMemory(
        f"a forward of {chunk.length} tokens does not fit in memory even alone ({error})"
    )
