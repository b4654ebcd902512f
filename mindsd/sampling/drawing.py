"""How one sequence's tokens are drawn: its parameters, its seed, and its grammar as it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mindsd.errors import RequestError

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
        if self.grammar is None:
            return [
                self._row([*tokens, *draft[:i]] if i else tokens) for i in range(len(draft) + 1)
            ]
        rows = [self._row(tokens, self.grammar.mask())]
        taken = 0
        try:
            for guess in draft:
                mask = rows[-1].mask
                # After an end nothing is looked at, and the grammar takes nothing.
                if guess in self._eos or mask is None or not mask[guess]:
                    break
                self.grammar.accept(guess)
                taken += 1
                rows.append(self._row([*tokens, *draft[:taken]], self.grammar.mask()))
        except RequestError:
            pass  # of a guess that may be wrong; if it is right, this comes again when it is drawn
        finally:
            if taken:
                self.grammar.rollback(taken)
        missing = range(len(rows), len(draft) + 1)
        return rows + [self._row([*tokens, *draft[:count]]) for count in missing]

    def _row(self, before: list[int], mask: Tensor | None = None) -> Row:
        return Row(self.sampling, self._seed, before, self._prompt, mask, self._forbidden(before))

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
