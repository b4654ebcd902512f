"""A denoiser taken apart without touching its code: what is cheap, and what can be forecast.

The blocks of one instance are wrapped. In each pass they do one of these:

    PLAIN    run
    KEEP     run, and keep the deep value at the last seam
    FORECAST let the deep blocks pass everything through; put a forecast in at the last seam
    PROBE    run to the first seam, keep the cheap feature there and stop
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor, nn

from mindsd.wrap import Wrap, wrap


class Pass(Enum):
    PLAIN = "plain"
    KEEP = "keep"
    FORECAST = "forecast"
    PROBE = "probe"


class Stop(Exception):
    """Ends a probe at the seam; never leaves `Split.probe`."""


@dataclass
class Running:
    """One pass that runs.

    Attributes:
        mode: which.
        value: the deep value that was kept or is put in, or the cheap feature.
        before: what a split remembers from one seam to the next.
    """

    mode: Pass = Pass.PLAIN
    value: Tensor | None = None
    before: Tensor | None = None


PLAIN = Running()


class Split:
    """What a step cache needs of a denoiser; subclasses know where its seams are.

    Tensors have the rows of the call first. Several threads may run passes of one split.
    """

    def __init__(self) -> None:
        self._running: ContextVar[Running] = ContextVar("running", default=PLAIN)  # noqa: B039  # never written to
        self._wraps: list[Wrap] = []

    @property
    def now(self) -> Running:
        """The pass that runs here."""
        return self._running.get()

    def whole(self, run: Callable[[], Any]) -> tuple[Any, Tensor]:
        """The denoiser's result and the deep value [rows, ...]."""
        running = Running(Pass.KEEP)
        result = self._in(running, run)
        assert running.value is not None
        return result, running.value

    def shallow(self, run: Callable[[], Any], deep: Tensor) -> Any:
        """Its result with the deep value put in instead of computed."""
        return self._in(Running(Pass.FORECAST, deep), run)

    def probe(self, run: Callable[[], Any]) -> Tensor:
        """A small cheap feature [rows, ...] that moves as the deep value moves."""
        running = Running(Pass.PROBE)
        try:
            self._in(running, run)
        except Stop:
            assert running.value is not None
            return running.value
        raise AssertionError("the probe ran past its seam")

    def remove(self) -> None:
        """Take everything off the denoiser."""
        for own in reversed(self._wraps):
            own.remove()
        self._wraps.clear()

    def put(self, module: nn.Module, function: Callable[..., Any]) -> None:
        """Wrap a block: `function(original, *args, **kwargs)`, called in every pass."""
        self._wraps.append(wrap(module, "forward", function))

    def _in(self, running: Running, run: Callable[[], Any]) -> Any:
        before = self._running.set(running)
        try:
            return run()
        finally:
            self._running.reset(before)
