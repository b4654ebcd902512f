"""A sequence of tokens that a language model goes on with, and what the engine knows of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from mindsd.kvcache.table import BlockTable

from .placeholders import Placeholders

_numbers = itertools.count(1)


@dataclass(eq=False)
class Sequence:
    """Its tokens, how many of them are in the cache, and how the next one is drawn.

    Attributes:
        tokens: prompt and output.
        prompt: how many of them are the prompt.
        table: its blocks.
        draws: what draws its tokens (sampling); None where only its prompt is to be computed.
        adapter: name of the LoRA adapter it runs with.
        images: of its prompt; None for a text.
        computed: tokens whose keys and values are written.
        reused: tokens that were found in the cache when it began.
        draft: tokens proposed to follow, to be verified in the next forward.
        priority: higher goes first.
        number: smaller is older; among equals the older goes first.
        preempted: how often its blocks were taken away from it.
    """

    tokens: list[int]
    prompt: int
    table: BlockTable
    draws: Any = None
    adapter: str | None = None
    images: Placeholders | None = None
    computed: int = 0
    reused: int = 0
    draft: list[int] = field(default_factory=list)
    priority: int = 0
    number: int = field(default_factory=lambda: next(_numbers))
    preempted: int = 0
    _names: list[int] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, int]:
        """Smaller goes first."""
        return (-self.priority, self.number)

    @property
    def target(self) -> int:
        """Tokens that must be computed before the caller hears of it: all that are known, or all
        but the last where no token is drawn."""
        return len(self.tokens) - (self.draws is None)

    @property
    def left(self) -> int:
        """Tokens to compute, before the draft."""
        return self.target - self.computed

    @property
    def names(self) -> list[int]:
        """What its tokens are known by in the cache: their ids, or their image's content."""
        if self.images is None:
            return self.tokens
        if not self._names:
            self._names += self.images.names
        self._names += self.tokens[len(self._names) :]
        return self._names

    def whole(self, start: int, length: int) -> int:
        """How many tokens from `start` on can be computed at once instead of `length`, that no
        image is divided whose tokens see each other: fewer, or more where it is the first."""
        return length if self.images is None else self.images.cut(start, start + length) - start

    def release(self) -> None:
        """Give all blocks back; what was computed may still be found by its hash."""
        self.table.free()
        self.computed = 0
