"""The blocks of image models compiled by torch: `layers="compiled"`.

Compiled are the transformer blocks of a denoiser. Step caches take a denoiser apart between them,
so caching, decisions for each row and the engine's batches go on round them; equal blocks share
what was compiled, and it takes seconds where a whole model takes minutes. Rows that merge tokens or
have adapters are computed by the blocks' own code: both change what is inside. Attention inside is
torch's own.

A structure is compiled when it first runs, and trusted once it gave the numbers of its own code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from mindsd.batching.rows import present_adapters, present_tag, running_forward
from mindsd.errors import RequestError
from mindsd.stepcache.dit import LISTS
from mindsd.wrap import Wrap, wrap

from .compiled_kind import Kind, kind_of, why_no_compiler
from .twin import Twin, why_no_twin


class Compiled:
    """The compiled blocks of a model; made by `compile_blocks`. Usable as a context manager.

    Attributes:
        served: block name -> what it shares with blocks of its structure.
        left: block name -> why its own code runs.
    """

    def __init__(self) -> None:
        self.served: dict[str, Kind] = {}
        self.left: dict[str, str] = {}
        self._wraps: list[Wrap] = []

    @property
    def wrong(self) -> dict[str, str]:
        """Block name -> why it turned out not to be used, of those that were."""
        return {name: own.wrong for name, own in self.served.items() if own.wrong is not None}

    def put(self, name: str, block: nn.Module, twin: Twin, kind: Kind) -> None:
        """Let a block's kind answer for it."""

        def run(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            other = kind.wrong is not None or torch.is_grad_enabled()
            if other or changes_inside() or not twin.holds():
                return original(*args, **kwargs)
            return kind.run(twin.bare, original, args, kwargs)

        self.served[name] = kind
        self._wraps.append(wrap(block, "forward", run))

    def remove(self) -> None:
        """The model as it was; doing it twice does nothing."""
        for own in reversed(self._wraps):
            own.remove()
        self._wraps = []

    def __enter__(self) -> Compiled:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def compile_blocks(
    model: nn.Module,
    backend: Any = "inductor",
    change: Callable[[Twin], None] | None = None,
    tolerance: float | None = None,
) -> Compiled:
    """Let torch compile the blocks of a model in inference; below all else that is laid round them.

    Where there is no compiler, one warning says so and the model runs as it did.

    Args:
        model: a denoiser.
        backend: of `torch.compile`.
        change: called with every twin before it is compiled, to change what it computes with.
        tolerance: see `kind_of`.

    Raises:
        RequestError: the model has no blocks that are known, or none that can be compiled.
    """
    compiled, found = Compiled(), list(blocks(model))
    kind = type(model).__name__
    if not found:
        raise RequestError(f"{kind} has no blocks that are known to repeat; leave layers out")
    device = next(model.parameters()).device.type
    if (reason := why_no_compiler(device)) is not None:
        compiled.left = dict.fromkeys((name for name, _ in found), reason)
        with suppress(RuntimeWarning):
            warnings.warn(f"{kind} is not compiled: {reason}", RuntimeWarning, stacklevel=2)
        return compiled
    for name, block in found:
        if (reason := why_no_twin(block)) is not None:
            compiled.left[name] = reason
            continue
        twin = Twin(block)
        if change is not None:
            change(twin)
        compiled.put(name, block, twin, kind_of(twin.bare, backend, tolerance))
    if not compiled.served:
        reasons = "; ".join(sorted(set(compiled.left.values())))
        raise RequestError(f"no block of {kind} can be compiled: {reasons}; leave layers out")
    return compiled


def blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The outermost blocks that repeat, with their names."""
    lists = [own for name in LISTS if isinstance(own := getattr(model, name, None), nn.ModuleList)]
    listed = {id(block) for own in lists for block in own}
    taken = ""
    for name, module in model.named_modules():
        known = id(module) in listed or isinstance(module, BasicTransformerBlock)
        if known and not (taken and name.startswith(taken)):
            taken = f"{name}."
            yield name, module


def changes_inside() -> bool:
    """Whether rows of the forward that runs have adapters, or merge tokens."""
    forward = running_forward()
    if forward is None:
        return bool(present_adapters()) or getattr(present_tag(), "group", None) is not None
    return any(row.adapters or getattr(row.tag, "group", None) is not None for row in forward.rows)
