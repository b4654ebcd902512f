"""Drafts from a text's own past: found, made where they pay, and never past the room."""

from __future__ import annotations

import gc
import random

import pytest

from mindsd.batching.sequence import Sequence
from mindsd.errors import RequestError
from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.prefix import root
from mindsd.kvcache.table import BlockTable, Lane
from mindsd.sampling.drawing import Drawing
from mindsd.sampling.parameters import Sampling
from mindsd.speculative.lookup import PromptLookup
from mindsd.speculative.pace import PROOF, Pace, agreed

SIZE = 4
PHRASE = list(range(100, 130))


def sequence(tokens: list[int], prompt: int = 1, blocks: int = 400, **sampling) -> Sequence:
    """That is decoding: all but its last token are computed."""
    table = BlockTable([Lane(BlockPool(blocks, SIZE))], root())
    table.reserve(0, len(tokens) - 1)
    draws = Drawing(Sampling(**{"max_tokens": 1000, **sampling}), 1, prompt)
    return Sequence(list(tokens), prompt, table, draws, computed=len(tokens) - 1)


def follow(own: Sequence, lookup: PromptLookup, text: list[int]) -> list[tuple[list[int], int]]:
    """Let it say `text`: each draft, and how many tokens of it were right."""
    told, left = [], list(text)
    while left:
        lookup.propose([own])
        right, _ = agreed(own.draft, left)
        told.append((own.draft, right))
        own.tokens += left[: right + 1]
        del left[: right + 1]
        own.draft = []
        own.table.reserve(own.computed, len(own.tokens))
        own.computed = len(own.tokens) - 1
    return told


def slow(tokens: list[int]) -> int | None:
    """The last place at which the longest of the last n-grams stood before, by looking."""
    for size in (3, 2):
        for end in range(len(tokens) - 1, size - 1, -1):
            if tokens[end - size : end] == tokens[-size:]:
                return end
    return None


def test_what_was_said_before_is_said_again_in_few_forwards():
    own = sequence([*PHRASE, 1, *PHRASE[:3]])
    told = follow(own, PromptLookup(), PHRASE[3:])
    assert all(right == len(draft) for draft, right in told[:-1])
    assert [len(draft) for draft, _ in told[: PROOF + 3]] == [*[0] * PROOF, 2, 4, 8]


def test_guesses_are_those_of_a_slow_search():
    chance, own = random.Random(3), sequence([1, 2])
    lookup = PromptLookup()
    for _ in range(400):
        own.tokens.append(chance.randrange(5))
        own.table.reserve(0, len(own.tokens) - 1)
        lookup.propose([own])
        text = lookup._texts[own]
        place = slow(own.tokens)
        assert text._found == place
        assert not own.draft or own.draft[0] == own.tokens[place or 0]


def test_where_it_reaches_the_end_a_guess_goes_round():
    own = sequence([7, 8, 9] * 10)
    told = follow(own, PromptLookup(length=8), [7, 8, 9] * 20)
    assert sum(len(draft) == right == 8 for draft, right in told) >= 4


def test_a_text_that_does_not_repeat_costs_no_token():
    chance = random.Random(0)
    text = [chance.randrange(280) for _ in range(1500)]
    told = follow(sequence(text[:500], max_tokens=2000), PromptLookup(), text[500:])
    assert len(told) == 1000 and not any(draft for draft, _ in told)


def test_guesses_that_fail_end_and_are_tried_again():
    lookup = PromptLookup()
    own = sequence([*PHRASE, 1, *PHRASE[:3]])
    follow(own, lookup, PHRASE[3:20])
    told = follow(own, lookup, [5, *range(500, 520), *PHRASE])
    assert told[0][0] and told[0][1] == 0
    assert not any(draft for draft, _ in told[1:22])
    assert told[-1][0], "it was never tried again"


def test_a_draft_ends_one_token_before_the_text():
    own = sequence([7] * 30, prompt=10, max_tokens=40)
    lookup = PromptLookup()
    while len(own.tokens) < 50:
        lookup.propose([own])
        assert len(own.tokens) + len(own.draft) <= 49
        own.tokens += [7] * (len(own.draft) + 1)
        own.table.reserve(own.computed, len(own.tokens))
        own.computed = len(own.tokens) - 1
    assert len(own.tokens) == 50


def test_nothing_behind_a_token_that_ends_the_text():
    lookup = PromptLookup(ends=(101 + 10,))
    own = sequence([*PHRASE, 1, *PHRASE[:3]])
    told = follow(own, lookup, PHRASE[3:12])
    assert all(111 not in draft[:-1] for draft, _ in told)
    ignoring = sequence([*PHRASE, 1, *PHRASE[:3]], ignore_eos=True)
    told = follow(ignoring, lookup, PHRASE[3:])
    assert any(111 in draft[:-1] for draft, _ in told)


def test_a_grammar_is_asked_and_gets_no_end_token():
    class Digits:
        def accepts(self, tokens):
            return next((at for at, token in enumerate(tokens) if token > 106), len(tokens))

    for ends, most in (((), 106), ((105,), 104)):
        own = sequence([*PHRASE, 1, *PHRASE[:2]])
        lookup = PromptLookup(ends=ends)
        lookup.propose([own])
        lookup._texts[own].pace.open(8)
        own.tokens.append(PHRASE[2])
        own.draws.grammar = Digits()
        lookup.propose([own])
        assert own.draft[-1] == most


def test_what_is_known_dies_with_the_sequence():
    lookup, own = PromptLookup(), sequence([1, 2, 3, 1, 2])
    lookup.propose([own])
    assert len(lookup._texts) == 1
    del own
    gc.collect()
    assert len(lookup._texts) == 0


def test_pace():
    pace = Pace(8)
    for _ in range(PROOF - 1):
        pace.told(1, False)
    pace.told(0, True)
    assert pace.length == 0
    for _ in range(PROOF):
        pace.told(1, False)
    lengths = [pace.length]
    for right, missed in ((2, False), (4, False), (8, False), (3, True), (0, True)):
        pace.told(right, missed)
        lengths.append(pace.length)
    assert lengths == [2, 4, 8, 8, 4, 0]


@pytest.mark.parametrize("options", [{"ngram": 1}, {"length": 0}, {"tokens": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(RequestError, match="prompt lookup needs"):
        PromptLookup(**options)
