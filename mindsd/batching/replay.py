"""A language model's forward, recorded for so many tokens and run again for others.

Steps of few tokens (a token of each sequence, drafts, the ends of prompts) go into the next bucket
that has room for them; its forward was recorded the first time it was asked. Long pieces of
prompts, pictures and LoRA adapters run as always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mindsd.batching.frame import Frame, blocks_of
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Step, present_step, stepping

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # tokens
SHORT = 16  # tokens of a segment: a longer one would read its keys too often, once for each
ROOM = 1024  # block numbers that a bucket has room for at first
Key = tuple[int, torch.Size]


class Recorder(Protocol):
    """Records what a device did."""

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What does the same again on the same memory; the function ran before."""
        ...


@dataclass(eq=False)
class Recorded:
    """A bucket's frame and what runs it again."""

    frame: Frame
    again: Callable[[], Tensor]


class Replay:
    """A forward that is recorded; takes the place of the one it is given.

    Args:
        forward: as of a `TokenRunner`.
        recorder: of the model's device.
        weights: of the model; where one of them lies elsewhere than before, all is recorded anew.

    Attributes:
        counts: buckets -> how often they ran.

    Raises (when called): whatever recording raises; the caller's forward is then of no use here.
    """

    def __init__(
        self,
        forward: Callable[..., Tensor],
        recorder: Recorder,
        weights: Callable[[], Iterable[Tensor]],
    ):
        self._forward, self._recorder, self._weights = forward, recorder, weights
        self._recorded: dict[Key, Recorded] = {}
        self._pages: PageStore | None = None
        self._places: tuple[int, ...] = ()
        self.counts: dict[int, int] = {}

    def __call__(self, ids: Tensor, positions: Tensor, index: Tensor, **more: Any) -> Tensor:
        """Logits [R, V] of the tokens at `index`, as the forward gives them, inside a step."""
        step = present_step()
        assert step is not None
        if more or not _fits(step):
            return self._forward(ids, positions, index, **more)
        self._look(step)
        rows = next(own for own in BUCKETS if own >= ids.shape[1])
        self.counts[rows] = self.counts.get(rows, 0) + 1
        key = rows, positions.shape[:-1]
        known = self._recorded.get(key)
        if known is not None and known.frame.fill(step, ids, positions):
            return known.again().index_select(0, index)
        self._recorded.pop(key, None)
        return self._record(key, step, ids, positions).index_select(0, index)

    def _look(self, step: Step) -> None:
        """Forget what was recorded of other pages or weights."""
        places = tuple(own.data_ptr() for own in self._weights())
        if step.pages is not self._pages or places != self._places:
            self._recorded.clear()
            self._pages, self._places = step.pages, places

    def _record(self, key: Key, step: Step, ids: Tensor, positions: Tensor) -> Tensor:
        """The logits of all tokens; what is first is done by hand, for kernels are made then."""
        room = max(ROOM, 2 * blocks_of(step))
        frame = Frame(key[0], step, positions, room)
        filled = frame.fill(step, ids, positions)
        assert filled, "a frame has room for what it was made for"

        def run() -> Tensor:
            frame.step.calls.clear()
            with stepping(frame.step):
                return self._forward(frame.ids, frame.positions, frame.index)

        first = run()
        self._recorded[key] = Recorded(frame, self._recorder.record(run))
        return first


def _fits(step: Step) -> bool:
    """Whether a step is one of few tokens, of texts, of the model itself."""
    return step.tokens <= BUCKETS[-1] and all(
        own.length <= SHORT and not own.whole and own.adapter is None for own in step.segments
    )
