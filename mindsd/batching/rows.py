"""Whose rows a forward has: what each call of the group carries, for those who decide per row.

A request tags its calls before they are suspended, and says which adapters they are computed with;
while a group runs, the tags and adapters of its rows are here. What a forward learns for later
forwards waits until it is known to have succeeded: a group may fail and be run again in parts, or
run once more to prove that its rows are independent.

Context variables are each greenlet's own, so no request sees another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from mindsd.errors import ModelError

Weighted = tuple[tuple[Any, float], ...]  # adapters, and how strong each is


@dataclass(frozen=True)
class Row:
    """One row of a forward: what its call carries, and which row of that call it is."""

    tag: Any
    number: int
    adapters: Weighted = ()


@dataclass
class Forward:
    """A forward that runs.

    Attributes:
        rows: of all its calls, in order.
        learned: what to do once it succeeded.
        plans: what was worked out of its rows once for all layers, by whose it is.
    """

    rows: list[Row]
    learned: list[Callable[[], None]] = field(default_factory=list)
    plans: dict[Any, Any] = field(default_factory=dict)

    def commit(self) -> None:
        """Keep what was learned."""
        for keep in self.learned:
            keep()


_tag: ContextVar[Any] = ContextVar("tag", default=None)
_adapters: ContextVar[Weighted] = ContextVar("adapters", default=())
_forward: ContextVar[Forward | None] = ContextVar("forward", default=None)


@contextmanager
def tagged(tag: Any) -> Iterator[None]:
    """Calls made inside carry `tag`."""
    before = _tag.set(tag)
    try:
        yield
    finally:
        _tag.reset(before)


def present_tag() -> Any:
    """What calls made here carry; None for nothing."""
    return _tag.get()


@contextmanager
def adapted(adapters: Weighted) -> Iterator[None]:
    """Calls made inside are computed with these adapters."""
    before = _adapters.set(adapters)
    try:
        yield
    finally:
        _adapters.reset(before)


def present_adapters() -> Weighted:
    """What calls made here are computed with; () for none."""
    return _adapters.get()


def running_forward() -> Forward | None:
    """The forward that runs; None outside an engine."""
    return _forward.get()


def present_tags() -> list[Any]:
    """What the rows of the forward that runs carry; outside an engine, what calls made here do."""
    forward = _forward.get()
    return [_tag.get()] if forward is None else [row.tag for row in forward.rows]


@contextmanager
def running(calls: Sequence[tuple[Any, int, Weighted]]) -> Iterator[Forward]:
    """A forward runs the rows of these calls: their tags, how many rows each has, its adapters.

    The one who began it commits what was learned, or drops it.
    """
    rows = [Row(tag, number, own) for tag, count, own in calls for number in range(count)]
    forward = Forward(rows)
    before = _forward.set(forward)
    try:
        yield forward
    finally:
        _forward.reset(before)


@contextmanager
def part_of(forward: Forward, places: Sequence[int]) -> Iterator[Forward]:
    """Some of a forward's rows run by themselves; what they learn is the whole forward's."""
    before = _forward.set(Forward([forward.rows[place] for place in places], forward.learned))
    try:
        yield forward
    finally:
        _forward.reset(before)


@contextmanager
def present_forward(rows: int) -> Iterator[Forward]:
    """The forward that runs; outside an engine a call is one of its own, kept when it succeeds."""
    found = _forward.get()
    if found is not None and len(found.rows) == rows:
        yield found
        return
    with running([(present_tag(), rows, _adapters_of(found))]) as own:
        yield own
    own.commit()


def _adapters_of(forward: Forward | None) -> Weighted:
    """Those of a call with other rows than the forward that it is made in."""
    if forward is None:
        return present_adapters()
    found = {row.adapters for row in forward.rows}
    if len(found) > 1:
        raise ModelError("a call's rows are not its forward's; here LoRAs cannot share one")
    return next(iter(found), ())
