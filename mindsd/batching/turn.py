"""Which group runs next: fair between kinds by time, oldest first within a kind.

Every kind of work (text, denoise, image) has a clock of the seconds it was given. The kind that is
furthest behind goes next, so neither a long image batch nor a stream of short calls starves the
other; a kind that was idle starts level with the others instead of catching up (stride scheduling,
Waldspurger and Weihl 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar


class Asked(Protocol):
    """What a suspended request waits for."""

    @property
    def kind(self) -> str: ...

    @property
    def rows(self) -> int: ...

    def limit(self, rows: int) -> int:
        """Rows that a group of it may have, at most `rows`."""
        ...

    def fits(self, other: Any) -> bool:
        """Whether the other may be done in one go with it."""
        ...


class Waiting(Protocol):
    """A suspended call with its place in the line."""

    @property
    def call(self) -> Asked: ...

    @property
    def order(self) -> tuple[int, int]:
        """(-priority, arrival): smaller goes first."""
        ...


W = TypeVar("W", bound=Waiting)


@dataclass
class Turn:
    """Chooses groups; keeps the clocks of the kinds."""

    clocks: dict[str, float] = field(default_factory=dict)
    _active: set[str] = field(default_factory=set)

    def choose(self, waiting: Sequence[W], rows: int) -> list[W]:
        """The calls of the next forward, at most `rows` rows (but always at least one call)."""
        oldest: dict[str, W] = {}
        for one in sorted(waiting, key=lambda one: one.order):
            oldest.setdefault(one.call.kind, one)
        self._wake(set(oldest))
        behind = min(oldest, key=lambda kind: (self.clocks[kind], oldest[kind].order))
        head = oldest[behind].call
        return self._gather(oldest[behind], waiting, head.limit(rows))

    def charge(self, kind: str, seconds: float) -> None:
        """Say how long a forward of this kind took."""
        self.clocks[kind] = self.clocks.get(kind, 0.0) + seconds

    def _wake(self, kinds: set[str]) -> None:
        level = min((self.clocks[k] for k in self._active & kinds), default=None)
        if level is None:
            level = max(self.clocks.values(), default=0.0)
        for kind in kinds - self._active:
            self.clocks[kind] = max(self.clocks.get(kind, 0.0), level)
        self._active = kinds

    @staticmethod
    def _gather(head: W, waiting: Sequence[W], rows: int) -> list[W]:
        group, total = [head], head.call.rows
        for one in sorted(waiting, key=lambda one: one.order):
            if one is head or total + one.call.rows > rows:
                continue
            if head.call.fits(one.call):
                group.append(one)
                total += one.call.rows
        return group
