"""How one sequence's tokens are drawn: its parameters, its seed, and its grammar as it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from .draw import Row
from .grammar import Grammar
from .parameters import Sampling


class Drawing:
    """Belongs to one sequence.

    Args:
        sampling: the request's parameters.
        seed: the one to use; the samples of one request have seeds of their own.
        prompt: how many tokens the prompt has.
        eos: tokens that end a text.
        grammar: what may come next; None for anything.
    """

    def __init__(
        self,
        sampling: Sampling,
        seed: int,
        prompt: int,
        eos: Sequence[int] = (),
        grammar: Grammar | None = None,
    ):
        self.sampling, self.grammar = sampling, grammar
        self._seed, self._prompt, self._eos = seed, prompt, tuple(eos)

    def rows(self, tokens: list[int], draft: list[int]) -> list[Row]:
        """What to draw after the tokens, and after each token of a draft.

        Args:
            tokens: all known ones.
            draft: where the grammar does not allow it, what follows is never looked at.
        """
        rows, taken = [], 0
        for count in range(len(draft) + 1):
            before = tokens if count == 0 else [*tokens, *draft[:count]]
            mask = None
            if self.grammar is not None and taken == count:
                mask = self.grammar.mask()
                # After an end nothing is looked at, and the grammar takes nothing.
                if count < len(draft) and draft[count] not in self._eos and mask[draft[count]]:
                    self.grammar.accept(draft[count])
                    taken += 1
            rows.append(
                Row(self.sampling, self._seed, before, self._prompt, mask, self._forbidden(before))
            )
        if self.grammar is not None and taken:
            self.grammar.rollback(taken)
        return rows

    def took(self, tokens: Sequence[int]) -> int:
        """These were drawn: how many of them count, for nothing does after the grammar's end."""
        if self.grammar is None:
            return len(tokens)
        for place, token in enumerate(tokens):
            self.grammar.accept(token)
            if self.grammar.finished:
                return place + 1
        return len(tokens)

    @property
    def finished(self) -> bool:
        """Whether the grammar allows nothing more."""
        return self.grammar is not None and self.grammar.finished

    def _forbidden(self, tokens: list[int]) -> tuple[int, ...]:
        return self._eos if len(tokens) - self._prompt < self.sampling.min_tokens else ()
