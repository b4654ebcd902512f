"""A sequence as the draft model has it: the target's tokens, and beyond them its own draft."""

from __future__ import annotations

from collections.abc import Sequence as Many
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from mindsd.batching.sequence import Sequence
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable, Lane

from .pace import Pace, agreed

REST = 16  # tokens without drafts after one that was all wrong
LONGEST_REST = 256


class MirrorTable(BlockTable):
    """A table that takes only what the target has said for certain.

    A draft may be taken back: until then its blocks must not be found by their hash, for they will
    be written over, nor may a window move on behind it.

    Attributes:
        known: tokens that the target has.
    """

    known = 0

    def computed(self, tokens: Many[int], count: int) -> None:
        super().computed(tokens, min(count, self.known))


@dataclass(eq=False)
class Mirror:
    """One sequence of the target in the draft model.

    Attributes:
        own: the draft model's sequence.
        table: its blocks.
        pace: how long its drafts are.
        rest: tokens that the target draws without a draft.
        failed: it cannot be computed; no more drafts.
    """

    own: Sequence
    table: MirrorTable
    pace: Pace
    rest: int = 0
    failed: bool = False
    _next_rest: int = REST

    @classmethod
    def of(cls, target: Sequence, lanes: Many[Lane], length: int) -> Mirror:
        """The root of its hashes is its own: requests that must not share a cache do not here."""
        table = MirrorTable(lanes, root(str(target.number)))
        own = Sequence([], target.prompt, table, number=target.number)
        mirror = cls(own, table, Pace(length))
        mirror.pace.open()
        return mirror

    @property
    def wish(self) -> int:
        """Tokens that its draft should have."""
        return 0 if self.failed else self.pace.length

    @property
    def drafted(self) -> list[int]:
        """Tokens beyond the target's."""
        return self.own.tokens[self.table.known :]

    def follow(self, target: Sequence) -> None:
        """Judge the last draft, take it back where the target went on otherwise, and catch up."""
        own, known = self.own, self.table.known
        new, draft = target.tokens[known:], self.drafted
        right, missed = agreed(draft, new)
        if draft and new:
            self._judge(right, missed)
        elif new and self.pace.length == 0:
            self._rest(len(new))
        del own.tokens[known + right :]
        own.computed = min(own.computed, len(own.tokens))
        own.table.cut(own.computed)
        own.tokens += new[right:]
        self.table.known = len(own.tokens)

    def begin(self, draws: Any) -> None:
        """Draw as the target will, by the same parameters and the same random numbers.

        Args:
            draws: the target's; its grammar is not touched.
        """
        self.own.draws = copy(draws)
        if draws.sampling.logprobs is not None:
            self.own.draws.sampling = replace(draws.sampling, logprobs=None)
        if draws.grammar is not None:
            self.own.draws.grammar = draws.grammar.copy()

    def fail(self) -> None:
        """Make no more drafts."""
        self.failed = True
        del self.own.tokens[self.table.known :]
        self.own.release()

    def give_way(self) -> None:
        """The draft model's cache has no room for it now: it begins anew after a rest."""
        del self.own.tokens[self.table.known :]
        self.own.release()
        self.pace.length, self.rest = 0, self._next_rest
        self._next_rest = min(LONGEST_REST, 2 * self._next_rest)

    def _judge(self, right: int, missed: bool) -> None:
        self.pace.told(right, missed)
        if self.pace.length == 0:
            self.rest = self._next_rest
            self._next_rest = min(LONGEST_REST, 2 * self._next_rest)
        elif not missed:
            self._next_rest = REST

    def _rest(self, tokens: int) -> None:
        self.rest -= tokens
        if self.rest <= 0:
            self.pace.open(1)
