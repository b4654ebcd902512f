"""Drafts from a smaller language model (Leviathan et al., arXiv:2211.17192).

It follows the target's texts in a cache of its own, and draws ahead with the very random numbers
that the target will draw with. So sampled text is guessed as often as its two distributions allow,
and the target's own draws decide alone what is said: its law is not touched.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from mindsd.batching.counts import TokenCounts
from mindsd.batching.runner import Ask, TokenRunner
from mindsd.batching.sequence import Sequence
from mindsd.errors import RequestError

from .mirror import Mirror
from .room import TOKENS, allowed, draft_rooms


class DraftModel:
    """A proposer with a smaller model of the same vocabulary.

    Args:
        runner: the draft model with a cache that nobody else uses.
        vocabulary: number V of the target's logits. The draft model may have more or fewer: some
            models of one tokenizer are padded otherwise.
        length: the most tokens of one draft, and the most forwards of the draft model in a turn. A
            long prompt is caught up with over several turns.
        tokens: the most of all drafts in one forward of the target.
        context: the most tokens that the draft model reads; None for no bound.
        ends: tokens that end a text.

    Raises:
        RequestError: a number is out of its range.
    """

    def __init__(
        self,
        runner: TokenRunner,
        vocabulary: int,
        length: int = 4,
        tokens: int = TOKENS,
        context: int | None = None,
        ends: Many[int] = (),
    ):
        if length < 1 or tokens < 1:
            raise RequestError(
                f"drafts have at least one token, got length={length}, tokens={tokens}"
            )

        def draw(logits: Tensor, rows: Many[Any]) -> Many[Any]:
            return runner.draw(_fitted(logits, vocabulary), rows)

        self._runner = replace(runner, draw=draw, proposer=None, counts=TokenCounts())
        self._length, self._tokens = length, tokens
        self._context, self._ends = context, tuple(ends)
        self._mirrors: dict[int, Mirror] = {}  # by the number of the target's sequence

    @property
    def counts(self) -> TokenCounts:
        """What the draft model has done."""
        return self._runner.counts

    def propose(self, sequences: Many[Sequence]) -> None:
        """Set the draft of each sequence, and let go of all that are not among them."""
        self._leave({own.number for own in sequences})
        mirrors = [self._followed(own) for own in sequences]
        wishes = [self._wish(mirror) for mirror in mirrors]
        rooms = draft_rooms(sequences, wishes, self._tokens)
        for own, mirror, room in zip(sequences, mirrors, rooms, strict=True):
            if room:
                mirror.begin(own.draws)
        self._draw([(own, room) for own, room in zip(mirrors, rooms, strict=True) if room])
        for own, mirror in zip(sequences, mirrors, strict=True):
            own.draft = allowed(own, mirror.drafted, self._ends)

    def close(self) -> None:
        """Give all blocks back."""
        self._leave(set())

    def _leave(self, present: set[int]) -> None:
        """Sequences that ended, were cancelled or lost their blocks; a sequence that comes back
        finds in the cache what of it is still there."""
        for number in self._mirrors.keys() - present:
            self._mirrors.pop(number).own.release()

    def _followed(self, own: Sequence) -> Mirror:
        mirror = self._mirrors.get(own.number)
        if mirror is None:
            mirror = Mirror.of(own, self._runner.lanes, self._length)
            self._mirrors[own.number] = mirror
        mirror.follow(own)
        return mirror

    def _wish(self, mirror: Mirror) -> int:
        if self._context is None:
            return mirror.wish
        return min(mirror.wish, self._context - len(mirror.own.tokens))

    def _draw(self, wanted: list[tuple[Mirror, int]]) -> None:
        """One token after the other, for all together; who is behind first reads what is new."""
        for _ in range(self._length):
            going = [mirror for mirror, room in wanted if self._goes_on(mirror, room)]
            if not going:
                return
            asks = [Ask(self._runner, (mirror.own,)) for mirror in going]
            for mirror, outcome in zip(going, self._runner.run(asks), strict=True):
                if outcome is None or outcome.error is None:
                    continue
                if isinstance(outcome.error, RequestError):  # no room beside the others
                    mirror.give_way()
                else:
                    mirror.fail()

    def _goes_on(self, mirror: Mirror, room: int) -> bool:
        draft = mirror.drafted
        return mirror.wish > 0 and len(draft) < room and not (draft and draft[-1] in self._ends)


def _fitted(logits: Tensor, vocabulary: int) -> Tensor:
    """Logits [R, V]: what the draft model lacks is never drawn."""
    missing = max(0, vocabulary - logits.shape[1])
    return functional.pad(logits[:, :vocabulary], (0, missing), value=float("-inf"))
