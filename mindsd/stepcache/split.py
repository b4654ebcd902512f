"""A denoiser taken apart without touching its code: what is cheap, and what can be forecast.

The blocks of one instance are wrapped. In each pass they do one of these:

    PLAIN    run
    KEEP     run, and keep the deep value at the last seam
    FORECAST let the deep blocks pass everything through; put a forecast in at the last seam
    PROBE    run to the first seam, keep the cheap feature there and stop

No list of models says that a denoiser comes apart at these seams, so it is tried: the first deep
value of every form of call is put back at once, and must give the result that it was kept from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mindsd.device import is_out_of_memory
from mindsd.errors import RequestError
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
        value: the deep value that is put in, or the cheap feature that was found.
        kept: the deep value's pieces as they were found, each [rows, ...].
        rows: of the call.
        form: which arguments the call has, whatever their sizes and numbers.
        dtype: of the kept value.
        begun: whether the cheap part lies behind.
        used: how much of the value was put in.
        tokens: how many of the first tokens are kept; None for all.
    """

    mode: Pass = Pass.PLAIN
    value: Tensor | None = None
    kept: list[Tensor] = field(default_factory=list)
    rows: int = 0
    form: Hashable = None
    dtype: torch.dtype = torch.float32
    begun: bool = False
    used: int = 0
    tokens: int | None = None


PLAIN = Running()


class Split:
    """What a step cache needs of a denoiser; subclasses know where its seams are.

    Tensors have the rows of the call first. Several threads may run passes of one split.
    """

    def __init__(self, module: nn.Module) -> None:
        self.kind = type(module).__name__
        self._signature = inspect.signature(module.forward)
        self._tried: set[Hashable] = set()
        self._running: ContextVar[Running] = ContextVar("running", default=PLAIN)  # noqa: B039  # never written to
        self._wraps: list[Wrap] = []
        self.put(module, self._read)

    @property
    def now(self) -> Running:
        """The pass that runs here."""
        return self._running.get()

    def whole(self, run: Callable[[], Any]) -> tuple[Any, Tensor]:
        """The denoiser's result and the deep value [rows, ...].

        Raises:
            RequestError: the deep value of such a call does not stand for what it was kept from.
        """
        running = Running(Pass.KEEP)
        result = self._in(running, run)
        deep = self.deep(running)
        if running.form not in self._tried:
            self._try(run, result, deep)
            self._tried.add(running.form)
        return result, deep

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

    def deep(self, running: Running) -> Tensor:
        """The deep value of a pass that kept it."""
        if not running.kept:
            raise self.refused("its deep blocks did not run")
        return running.kept[0]

    def tokens(self, named: dict[str, Any]) -> int | None:
        """How many of the first tokens of every row are kept; None for all, as always but one."""
        return None

    def refused(self, why: str) -> RequestError:
        """The error for a call that cannot be cached."""
        return RequestError(
            f"no step cache for {self.kind} with shallow steps: {why}; "
            "skip steps instead (skip:2 or tolerance:0.02)"
        )

    def remove(self) -> None:
        """Take everything off the denoiser."""
        for own in reversed(self._wraps):
            own.remove()
        self._wraps.clear()

    def put(self, module: nn.Module, function: Callable[..., Any]) -> None:
        """Wrap a module: `function(original, *args, **kwargs)`, called in every pass."""
        self._wraps.append(wrap(module, "forward", function))

    def _read(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        now = self.now
        if now.mode is not Pass.PLAIN:
            named = dict(self._signature.bind(*args, **kwargs).arguments)
            leaves, spec = pytree.tree_flatten(named, is_leaf=_is_many)
            now.form = str(spec), tuple(_form(leaf) for leaf in leaves)
            now.rows = next((len(own) for own in leaves if isinstance(own, Tensor | list)), 0)
            now.tokens = self.tokens(named)
        return original(*args, **kwargs)

    def _try(self, run: Callable[[], Any], result: Any, deep: Tensor) -> None:
        """Hold a value that was just kept against what it was kept from; one wait for the device.

        Not for numbers that overflowed: those prove nothing.
        """
        try:
            again = self.shallow(run, deep)
        except RequestError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise self.refused(f"its first and last layers do not run alone ({error})") from error
        if not (apart := distance(again, result)) <= 1:  # nor where it is not a number
            raise self.refused(
                f"its deep blocks are not all that lies between its first and last layers "
                f"(put back at once, what they gave is {apart:.3g} times what rounding may move)"
            )

    def _in(self, running: Running, run: Callable[[], Any]) -> Any:
        before = self._running.set(running)
        try:
            return run()
        finally:
            self._running.reset(before)


def _is_many(node: Any) -> bool:
    """A list of tensors, however long: one for each row, or what a ControlNet adds."""
    return isinstance(node, list) and bool(node) and all(isinstance(x, Tensor) for x in node)


def _form(leaf: Any) -> Hashable:
    if isinstance(leaf, Tensor):
        return Tensor, leaf.ndim
    return leaf if leaf is None or isinstance(leaf, bool | str) else type(leaf)


def distance(result: Any, reference: Any) -> float:
    """How far two results are apart (L2), in units of what rounding may make: the root of epsilon.

    0 where the reference is not finite.
    """
    pairs = zip(_leaves(result), _leaves(reference), strict=True)
    floats = [(a, b) for a, b in pairs if isinstance(b, Tensor) and b.is_floating_point()]
    parts = []
    for own, expected in floats:
        size = expected.float().norm()
        share = (own.float() - expected.float()).norm() / size.clamp_min(1e-12)
        parts.append(torch.where(size.isfinite(), share / torch.finfo(own.dtype).eps ** 0.5, 0))
    return torch.stack(parts).max().item() if parts else 0.0


def _leaves(result: Any) -> list[Any]:
    """The leaves of a result; of lists of any class their items."""
    leaves = pytree.tree_leaves(result)
    return [item for leaf in leaves for item in (leaf if isinstance(leaf, list) else [leaf])]
