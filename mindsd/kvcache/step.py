"""What one forward of a language model works on, and how attention learns of it.

Tokens of several sequences stand end to end in one row, [1, T]:

    | d | e | f f f | p p p p p p p p |     d, e: a token each; f: a draft; p: a chunk of a prompt

The model passes them on without knowing; its attention asks `present_step` whose tokens they are.
A context variable, for many models hand no unknown argument down to their attention, and vision
towers would be handed what is not theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from .pages import PageStore
from .table import Lane


@dataclass(frozen=True, eq=False)
class Segment:
    """The tokens of one sequence in a step.

    Attributes:
        start: where in the row they begin.
        length: how many they are.
        past: how many tokens of the sequence are in the cache already.
        blocks: its block numbers in each lane.
        adapter: the LoRA adapter that it runs with; None for the model itself.
        whole: (start, stop) positions of images whose tokens see each other, of those it has.
    """

    start: int
    length: int
    past: int
    blocks: Sequence[Sequence[int]]
    adapter: str | None = None
    whole: Sequence[tuple[int, int]] = ()

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def total(self) -> int:
        """Tokens of the sequence that are in the cache after this step."""
        return self.past + self.length


@dataclass(eq=False)
class Step:
    """One forward.

    Attributes:
        segments: in the order of their tokens.
        pages: where keys and values are kept.
        lanes: of the layers.
        device: the model's.
        calls: how often each layer has attended in this forward.
        plans: what attention prepared for this step and uses in every layer.
    """

    segments: Sequence[Segment]
    pages: PageStore
    lanes: Sequence[Lane]
    device: torch.device
    calls: Counter[int] = field(default_factory=Counter)
    plans: dict[Any, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.segments[-1].stop

    @property
    def past(self) -> int:
        """Tokens in the cache of the sequence that has most."""
        return max(segment.past for segment in self.segments)

    @cached_property
    def slots(self) -> list[torch.Tensor]:
        """Where this step's keys and values go, for each lane: block * size + offset, [T]."""
        lanes = range(len(self.lanes))
        found = [slots_of(self.segments, lane, self.pages.size) for lane in lanes]
        return [torch.tensor(own, device=self.device) for own in found]

    def plan(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for all layers."""
        if key not in self.plans:
            self.plans[key] = make()
        return self.plans[key]

    def next_call(self, layer: int) -> int:
        """0 when a layer attends for the first time in this forward, then 1, ..."""
        self.calls[layer] += 1
        return self.calls[layer] - 1


def slots_of(segments: Sequence[Segment], lane: int, size: int) -> list[int]:
    """Where the keys and values of segments go in a lane: block * size + offset, each token's."""
    return [
        segment.blocks[lane][position // size] * size + position % size
        for segment in segments
        for position in range(segment.past, segment.total)
    ]


_present: ContextVar[Step | None] = ContextVar("step", default=None)


@contextmanager
def stepping(step: Step) -> Iterator[None]:
    """Attention inside works on `step`."""
    before = _present.set(step)
    try:
        yield
    finally:
        _present.reset(before)


def present_step() -> Step | None:
    """The step that attention called here works on; None outside of one."""
    return _present.get()
