"""How a sequence goes on: a row after every token of a draft, and a grammar that stays in step."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.sampling.drawing import Drawing
from mindsd.sampling.parameters import Sampling

EOS, WORDS = 1, 10
PROMPT = [7, 8]


class Counting:
    """A grammar of the numbers 2, 3, 4, ... up to the last, and then the end; says what it did."""

    def __init__(self, last: int = 5, broken: int | None = None, error: Exception | None = None):
        self.last, self.broken = last, broken
        self.error = error or RequestError("too deep")
        self.taken: list[int] = []

    @property
    def finished(self) -> bool:
        return EOS in self.taken

    def mask(self) -> torch.Tensor:
        following = (self.taken or [1])[-1] + 1
        allowed = torch.zeros(WORDS, dtype=torch.bool)
        allowed[following if following <= self.last else EOS] = True
        return allowed

    def accept(self, token: int) -> None:
        if token == self.broken:
            raise self.error
        assert self.mask()[token], f"{token} after {self.taken}"
        self.taken.append(token)

    def rollback(self, number: int) -> None:
        assert 0 < number <= len(self.taken)
        del self.taken[-number:]


def drawing(grammar: Any = None, prompt: int = len(PROMPT), **options: Any) -> Drawing:
    return Drawing(Sampling(**options), 42, prompt, (EOS,), cast(Any, grammar))


def allowed(rows: list[Any]) -> list[list[int] | None]:
    return [None if row.mask is None else row.mask.nonzero().flatten().tolist() for row in rows]


def test_a_row_after_the_tokens_and_after_each_of_a_draft():
    own = drawing(temperature=0.5)
    tokens, draft = [*PROMPT, 2], [5, 6]
    rows = own.rows(tokens, draft)
    assert [list(row.tokens) for row in rows] == [[7, 8, 2], [7, 8, 2, 5], [7, 8, 2, 5, 6]]
    assert {(row.sampling, row.seed, row.prompt) for row in rows} == {(own.sampling, 42, 2)}
    assert allowed(rows) == [None] * 3 and [row.forbidden for row in rows] == [()] * 3
    assert (tokens, draft) == ([7, 8, 2], [5, 6])
    assert len(own.rows(tokens, [])) == 1


def test_no_end_before_so_many_tokens_of_the_answer():
    own = drawing(min_tokens=2)
    rows = own.rows(PROMPT, [5, 6, 7])
    assert [row.forbidden for row in rows] == [(EOS,), (EOS,), (), ()]
    several = Drawing(Sampling(min_tokens=1), 0, 2, [EOS, 9])
    assert several.rows(PROMPT, [])[0].forbidden == (EOS, 9)


def test_without_a_grammar_everything_counts_and_nothing_finishes():
    own = drawing()
    assert own.took([5, EOS, 6]) == 3 and own.took([]) == 0 and not own.finished


def test_each_row_is_masked_by_what_stands_before_it():
    grammar = Counting()
    own = drawing(grammar)
    assert allowed(own.rows(PROMPT, [2, 3])) == [[2], [3], [4]] and grammar.taken == []
    assert own.took([2]) == 1
    rows = own.rows([*PROMPT, 2], [3])
    assert allowed(rows) == [[3], [4]] and grammar.taken == [2]
    assert [list(row.tokens) for row in rows] == [[7, 8, 2], [7, 8, 2, 3]]


def test_what_follows_a_guess_that_may_not_come_has_no_mask():
    grammar = Counting()
    rows = drawing(grammar).rows(PROMPT, [2, 7, 3])
    assert allowed(rows) == [[2], [3], None, None] and grammar.taken == []
    assert [list(row.tokens)[2:] for row in rows] == [[], [2], [2, 7], [2, 7, 3]]


def test_a_guessed_end_is_not_taken():
    grammar = Counting(last=2)
    rows = drawing(grammar).rows(PROMPT, [2, EOS, 2])
    assert allowed(rows) == [[2], [EOS], None, None] and grammar.taken == []


def test_a_limit_met_by_a_guess_is_no_error_until_it_is_drawn():
    grammar = Counting(broken=4)
    own = drawing(grammar)
    assert allowed(own.rows(PROMPT, [2, 3, 4, 5])) == [[2], [3], [4], None, None]
    assert grammar.taken == []
    with pytest.raises(RequestError, match="too deep"):
        own.took([2, 3, 4])


def test_another_error_is_told_and_leaves_the_grammar_as_it_was():
    grammar = Counting(broken=3, error=ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        drawing(grammar).rows(PROMPT, [2, 3])
    assert grammar.taken == []


def test_nothing_counts_after_the_grammars_end():
    grammar = Counting(last=3)
    own = drawing(grammar)
    assert own.took([2, 3]) == 2 and not own.finished
    assert own.took([EOS, 5, 6]) == 1 and own.finished
    assert grammar.taken == [2, 3, EOS]
