"""Runs a language model for all sequences that wait: one packed forward, then a token for each.

A request asks for its sequences to go on (`Ask`) and is suspended. Each turn takes what fits into
one forward; requests whose sequences came to something are resumed, the others go on waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from mindsd.batching.coroutine import Outcome
from mindsd.batching.counts import TokenCounts
from mindsd.batching.sequence import Sequence
from mindsd.batching.tokens import Batch, Budget, Chunk, next_batch
from mindsd.device import is_out_of_memory
from mindsd.errors import OutOfMemory, RequestError
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.kvcache.table import Lane

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
            inside a step.
        draw: (logits [R, V], rows) -> one drawn token for each.
        pages, lanes: the cache.
        budget: of one forward.
        device: of the model.
        proposer: guesses ahead; None for no speculation.
    """

    forward: Callable[[Tensor, Tensor, Tensor], Tensor]
    draw: Callable[[Tensor, Many[Any]], Many[Any]]
    pages: PageStore
    lanes: Many[Lane]
    budget: Budget = Budget()
    device: torch.device = torch.device("cpu")
    proposer: Proposer | None = None
    counts: TokenCounts = field(default_factory=TokenCounts)

    def run(self, asks: Many[Ask]) -> list[Outcome | None]:
        """One turn: the outcome of every ask, None where it goes on waiting."""
        sequences = [own for ask in asks for own in ask.sequences]
        if self.proposer is not None:
            ready = [own for own in sequences if own.draws and own.computed and own.left == 1]
            self.proposer.propose(ready)
        before = sum(own.preempted for own in sequences)
        batch = next_batch(sequences, self.budget)
        self.counts.preempted += sum(own.preempted for own in sequences) - before
        went: dict[Sequence, list[Any] | Exception] = {own: _too_long(own) for own in batch.refused}
        went |= {own: [] for own in sequences if own.left == 0 and own not in went}
        if batch.chunks:
            self.pages.copy(batch.copies)
            went |= self._attempt(batch)
        return [_outcome(ask, went) for ask in asks]

    def check(self) -> None:
        """While no request is live: no block is lost, and none is held."""
        for lane in self.lanes:
            lane.pool.check()
            assert lane.pool.counts[1] == 0, "a request that ended still holds blocks"

    def _attempt(self, batch: Batch) -> dict[Sequence, list[Any] | Exception]:
        """Run a batch; where it fails, each chunk by itself: the error is the culprit's alone.

        Writing the same keys and values again does no harm. Memory that runs out makes later
        batches smaller.
        """
        try:
            return self._run(batch.chunks)
        except Exception as error:
            ran_out = is_out_of_memory(error)
            if len(batch.chunks) == 1 and not (ran_out and batch.chunks[0].length > 1):
                return {batch.chunks[0].sequence: _explain(error, batch.chunks[0])}
        if ran_out:
            total = sum(chunk.length for chunk in batch.chunks)
            self.budget = replace(self.budget, tokens=max(1, total // 2))
            return {}  # they are asked for again, in smaller forwards
        went: dict[Sequence, list[Any] | Exception] = {}
        for chunk in batch.chunks:
            went |= self._attempt(Batch([chunk], [], []))
        return went

    def _run(self, chunks: Many[Chunk]) -> dict[Sequence, list[Any] | Exception]:
        segments, start = [], 0
        for chunk in chunks:
            own = chunk.sequence
            blocks = own.table.blocks
            segments.append(Segment(start, chunk.length, chunk.start, blocks, own.adapter))
            start += chunk.length
        step = Step(segments, self.pages, self.lanes, self.device)
        ids = [token for chunk in chunks for token in chunk.tokens()]
        positions = [place for chunk in chunks for place in range(chunk.start, chunk.stop)]
        wanted = [
            place
            for chunk, segment in zip(chunks, segments, strict=True)
            for place in _drawing(chunk, segment)
        ]
        index = wanted or [len(ids) - 1]
        with stepping(step):
            logits = self.forward(*(self._tensor(x) for x in ([ids], [positions], index)))
        self.counts.forwards += 1
        self.counts.computed += len(ids)
        return self._take(chunks, logits)

    def _tensor(self, numbers: list[Any]) -> Tensor:
        return torch.tensor(numbers, device=self.device)

    def _take(self, chunks: Many[Chunk], logits: Tensor) -> dict[Sequence, list[Any] | Exception]:
        """Draw, verify the drafts, and note what is computed now."""
        drawing = [chunk for chunk in chunks if chunk.draws]
        rows = [
            chunk.sequence.draws.rows(chunk.sequence.tokens, _draft(chunk)) for chunk in drawing
        ]
        drawn = iter(self.draw(logits, [row for own in rows for row in own]) if drawing else [])
        went: dict[Sequence, list[Any] | Exception] = {}
        for chunk in chunks:
            own = chunk.sequence
            if not chunk.draws:
                self._computed(own, chunk.stop)
                if own.left == 0:
                    went[own] = []
                continue
            draft = _draft(chunk)
            went[own] = self._verified(own, draft, [next(drawn) for _ in range(len(draft) + 1)])
        return went

    def _verified(self, own: Sequence, draft: list[int], drawn: list[Any]) -> list[Any] | Exception:
        """What was drawn after the sequence, as far as the draft had guessed it.

        What is drawn at a place depends on the tokens before it and on its own random number alone,
        so a draft is right exactly where it guessed what is drawn anyway: the text is the same
        with and without it.
        """
        count = next((i for i, guess in enumerate(draft) if drawn[i].token != guess), len(draft))
        kept = drawn[: count + 1]
        failed = next((one.error for one in kept if one.error is not None), None)
        if failed is not None:
            return failed
        known = len(own.tokens)
        kept = kept[: own.draws.took([one.token for one in kept])]
        count = min(count, len(kept))
        own.tokens += [one.token for one in kept]
        own.draft = []
        own.table.cut(known + count)
        self._computed(own, known + count)
        self.counts.drawn += len(kept)
        self.counts.drafted += len(draft)
        self.counts.accepted += count
        return kept

    def _computed(self, own: Sequence, count: int) -> None:
        own.computed = count
        own.table.computed(own.tokens, count)


def _drawing(chunk: Chunk, segment: Segment) -> Iterable[int]:
    """Places in the step whose logits are wanted: the last known token and the draft's."""
    if not chunk.draws:
        return ()
    known = len(chunk.sequence.tokens) - chunk.start
    return range(segment.start + known - 1, segment.stop)


def _draft(chunk: Chunk) -> list[int]:
    return chunk.sequence.draft[: chunk.stop - len(chunk.sequence.tokens)]


def _outcome(ask: Ask, went: dict[Sequence, list[Any] | Exception]) -> Outcome | None:
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
