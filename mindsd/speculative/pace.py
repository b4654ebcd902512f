"""How many tokens the next draft of a sequence has, by how its last ones fared."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

START = 2  # tokens of the first draft
PROOF = 5  # right guesses in a row, made for nothing, before a draft is made of them


@dataclass
class Pace:
    """Doubles where a draft was right to its end, halves where a part of it was, else stops.

    Attributes:
        most: tokens of a draft.
        length: tokens that the next one may have; 0 where none is to be made.
    """

    most: int
    length: int = 0
    _right: int = 0

    def open(self, length: int = START) -> None:
        """Make drafts again."""
        self.length = min(length, self.most)

    def told(self, right: int, missed: bool) -> None:
        """How the last guess fared; while no drafts are made, that of one token that was only
        compared with what was drawn.

        Args:
            right: tokens of it that were drawn.
            missed: whether another token was drawn where it had one more.
        """
        if self.length == 0:
            self._right = 0 if missed else self._right + 1
            if self._right >= PROOF:
                self.open()
        elif not missed:
            self.length = min(self.most, 2 * self.length)
        else:
            self.length = self.length // 2 if right else 0
            self._right = 0

    def idle(self) -> None:
        """There is nothing to guess by: what was known of this text is out of date."""
        self._right = 0
        self.length = min(self.length, START)


def agreed(guess: Many[int], drawn: Many[int]) -> tuple[int, bool]:
    """How many leading tokens of a guess were drawn, and whether another was drawn then."""
    both = min(len(guess), len(drawn))
    right = next((at for at in range(both) if guess[at] != drawn[at]), both)
    return right, right < both
