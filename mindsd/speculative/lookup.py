"""Drafts from a text's own past: where its last tokens stood before, the same may follow.

Prompt lookup decoding (Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding). It
needs no model, and pays where a text says again what was said: summaries, changed code, quotations,
tables. Elsewhere it must cost nothing, so a sequence first has to prove itself: its guesses are
only compared with what is drawn, and sent along as a draft once several in a row were right.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from weakref import WeakKeyDictionary

from mindsd.batching.sequence import Sequence
from mindsd.errors import RequestError

from .pace import Pace, agreed
from .room import TOKENS, allowed, draft_rooms

SHORTEST = 2  # tokens that must have stood together before
BITS = 32  # of a token in a key


class PromptLookup:
    """A proposer that looks for the last tokens of a sequence earlier in it.

    Args:
        ngram: the most tokens that are looked for, then fewer down to 2.
        length: the most tokens of one draft.
        tokens: the most of all drafts in one forward.
        ends: tokens that end a text.

    Raises:
        RequestError: a number is out of its range.
    """

    def __init__(self, ngram: int = 3, length: int = 8, tokens: int = TOKENS, ends: Many[int] = ()):
        if ngram < SHORTEST or length < 1 or tokens < 1:
            raise RequestError(
                f"prompt lookup needs n-grams from {SHORTEST} tokens and drafts from 1, got "
                f"ngram={ngram}, length={length}, tokens={tokens}"
            )
        self._sizes = range(ngram, SHORTEST - 1, -1)
        self._length, self._tokens, self._ends = length, tokens, tuple(ends)
        self._texts: WeakKeyDictionary[Sequence, Text] = WeakKeyDictionary()

    def propose(self, sequences: Many[Sequence]) -> None:
        """Set the draft of each sequence; empty where there is no guess worth a try."""
        texts = [self._read(own) for own in sequences]
        rooms = draft_rooms(sequences, [text.wish for text in texts], self._tokens)
        for own, text, room in zip(sequences, texts, rooms, strict=True):
            own.draft = allowed(own, text.draft(own.tokens, room), self._ends) if room else []

    def _read(self, own: Sequence) -> Text:
        text = self._texts.get(own)
        if text is None:
            text = self._texts[own] = Text(self._sizes, self._length)
        text.read(own.tokens)
        return text


class Text:
    """What is known of one sequence: where its n-grams stood last, and how guesses fared.

    Attributes:
        pace: of its drafts.
    """

    def __init__(self, sizes: Many[int], most: int):
        self.pace = Pace(most)
        self._places: list[tuple[int, dict[int, int]]] = [(size, {}) for size in sizes]
        self._read = 0  # tokens that are in the index
        self._found: int | None = None
        self._guess: list[int] = []

    @property
    def wish(self) -> int:
        """Tokens that its draft should have."""
        return 0 if self._found is None else self.pace.length

    def read(self, tokens: list[int]) -> None:
        """Judge the last guess by the tokens that came since, and look where they stood before."""
        if len(tokens) == self._read:
            return
        if self._guess:
            self.pace.told(*agreed(self._guess, tokens[self._read :]))
        self._find(tokens)
        self._read = len(tokens)
        if self._found is None:
            self._guess = []
            self.pace.idle()
        else:
            self._guess = [tokens[self._found]]

    def draft(self, tokens: list[int], length: int) -> list[int]:
        """What followed where the last tokens stood; where that reaches them, it goes round."""
        assert self._found is not None
        followed = tokens[self._found : self._found + length]
        self._guess = (followed * -(-length // len(followed)))[:length]
        return self._guess

    def _find(self, tokens: list[int]) -> None:
        """Put what is new into the index, all but the last tokens, and find these."""
        self._found = None
        for size, places in self._places:
            if len(tokens) < size:
                continue
            # An n-gram is one whole number; `end` is the place of the token that follows it.
            first = max(size, self._read)
            mask, key = (1 << BITS * size) - 1, 0
            for token in tokens[first - size : first]:
                key = key << BITS | token
            for end in range(first, len(tokens)):
                places[key] = end
                key = (key << BITS | tokens[end]) & mask
            if self._found is None:
                self._found = places.get(key)
