"""A language model's forward, recorded for so many tokens and run again for others.

A step goes into the next shape that has room for it; the forward of a shape was recorded the first
time it was asked. Pictures and LoRA adapters run as always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mindsd.batching.frame import Frame, Shape, blocks_of
from mindsd.device import is_out_of_memory
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Step, present_step, stepping
from mindsd.kvcache.tiles import LONG, tile_of

MOST = 4096  # tokens; more keep a GPU busy enough
ROWS = (1, 16, 256)  # whose logits are wanted, where segments are long
SEQUENCES = 256
ROOM = 1024  # block numbers that a shape has room for at first


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
        counts: how often each shape ran.
        left: shapes that could not be recorded, and why; they run as always.
        clears: attention turned out to be answered by plain operations, which read what they mask.
    """

    def __init__(
        self,
        forward: Callable[..., Tensor],
        recorder: Recorder,
        weights: Callable[[], Iterable[Tensor]],
    ):
        self._forward, self._recorder, self._weights = forward, recorder, weights
        self._recorded: dict[Shape, Recorded] = {}
        self._pages: PageStore | None = None
        self._places: tuple[int, ...] = ()
        self.counts: dict[Shape, int] = {}
        self.left: dict[Shape, str] = {}
        self.clears = False
        self._out: Tensor | None = None  # logits of all shapes: one runs at a time

    def __call__(self, ids: Tensor, positions: Tensor, index: Tensor, **more: Any) -> Tensor:
        """Logits [R, V] of the tokens at `index`, as the forward gives them, inside a step."""
        step = present_step()
        assert step is not None
        shape = None if more else shape_of(step, len(index), positions.shape[:-1])
        if self.clears or shape is None or shape in self.left:
            return self._forward(ids, positions, index, **more)
        self._look(step)
        self.counts[shape] = self.counts.get(shape, 0) + 1
        given, known = (step, ids, positions, index), self._recorded.get(shape)
        if known is not None and known.frame.fill(*given):
            return known.again()[: len(index)].clone()
        self._recorded.pop(shape, None)
        try:
            first = self._record(shape, given)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._give_up(shape, error)
            return self._forward(ids, positions, index)
        return first[: len(index)].clone()

    def _look(self, step: Step) -> None:
        """Forget what was recorded of other pages or weights."""
        places = tuple(own.data_ptr() for own in self._weights())
        if step.pages is not self._pages or places != self._places:
            self._recorded.clear()
            self._pages, self._places = step.pages, places

    def _record(self, shape: Shape, given: tuple[Step, Tensor, Tensor, Tensor]) -> Tensor:
        """The logits of all rows; what is first is done by hand, for kernels are made then."""
        step = given[0]
        room = max(ROOM, 2 * (blocks_of(step) + shape.tokens // step.pages.size + 1))
        frame = Frame(shape, step, room)
        filled = frame.fill(*given)
        assert filled, "a frame has room for what it was made for"

        def run() -> Tensor:
            frame.step.calls.clear()
            with stepping(frame.step):
                logits = self._forward(frame.ids, frame.positions, frame.index)
            if self._out is None:  # never while it is recorded: this has run before
                self._out = logits.new_empty(ROWS[-1], logits.shape[1])
            return self._out[: shape.rows].copy_(logits)

        first = run()
        try:
            self._recorded[shape] = Recorded(frame, self._recorder.record(run))
        except Exception as error:  # what was computed is right all the same
            self.left[shape] = f"{type(error).__name__}: {error}".split("\n")[0]
        return first

    def _give_up(self, shape: Shape, error: Exception) -> None:
        """Run all as always: no kernel that reads tiles answers for attention here."""
        assert self._pages is not None
        self.left[shape] = f"{type(error).__name__}: {error}".split("\n")[0]
        self.clears = True
        self._recorded.clear()
        self._pages.make_finite()


def shape_of(step: Step, rows: int, axes: torch.Size) -> Shape | None:
    """The least shape that a step fits into; None where it is to run as always."""
    if step.tokens > MOST or len(step.segments) > SEQUENCES or rows > ROWS[-1]:
        return None
    if any(own.whole or own.adapter is not None for own in step.segments):
        return None
    tokens = _up(step.tokens)
    if tile_of(step) == 1:
        return Shape(tokens, tokens, 1, tokens, axes)
    wanted = next(own for own in ROWS if own >= rows)
    return Shape(max(LONG, tokens), wanted, LONG, SEQUENCES, axes)


def _up(tokens: int) -> int:
    """The next of 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, ...: at most half is nobody's."""
    power = 1 << (tokens - 1).bit_length()
    between = power // 4 * 3
    return between if tokens <= between and power > LONG else power
