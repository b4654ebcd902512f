"""A denoiser in each of the ways that are compared; every one gives it back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mindsd.attention.float8 import cannot_float8
from mindsd.attention.image_layers import lay_below

Forward = Callable[[], Tensor]
REGIONAL, WHOLE = "diffusers + compile_repeated_blocks", "diffusers + torch.compile, whole"
EAGER, COMPILED, FP8 = "diffusers eager", "mindsd compiled", "mindsd fp8"
_kept: dict[tuple[str, int], Any] = {}  # what was compiled, by way and model


class Skipped(Exception):
    """A way that cannot be had here; the message says why."""


def quick_ways() -> list[str]:
    """Those that compile in seconds."""
    return [EAGER, REGIONAL, COMPILED, FP8]


@contextmanager
def entered(way: str, model: Any) -> Iterator[None]:
    """The model in one of the ways.

    Raises:
        Skipped: it cannot be had here.
    """
    if way == REGIONAL:
        with regional(model):
            yield
    elif way == WHOLE:
        with whole(model):
            yield
    elif way in (COMPILED, FP8):
        weight = next(model.parameters())
        if way == FP8 and (reason := cannot_float8(weight.device.type, weight.dtype)):
            raise Skipped(reason)
        put_on = lay_below({COMPILED: "compiled", FP8: "fp8"}[way], {"denoiser": model})
        try:
            yield
        finally:
            for own in reversed(put_on):
                own.remove()
    else:
        yield


@contextmanager
def regional(model: Any, fullgraph: bool = True) -> Iterator[None]:
    """As diffusers says for large models: each repeated block is compiled, and channels last."""
    blocks = [own for own in model.modules() if type(own).__name__ in model._repeated_blocks]
    key = (f"{REGIONAL} {fullgraph}", id(model))
    if key not in _kept:
        model.compile_repeated_blocks(fullgraph=fullgraph)
        _kept[key] = [own._compiled_call_impl for own in blocks]
    for own, compiled in zip(blocks, _kept[key], strict=True):
        own._compiled_call_impl = compiled
    model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)
        for own in blocks:
            own._compiled_call_impl = None


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """As diffusers says for UNets: the whole of it, in one graph, and channels last."""
    key = (WHOLE, id(model))
    if key not in _kept:
        _kept[key] = torch.compile(type(model).forward, fullgraph=True)
    compiled = _kept[key]
    model.to(memory_format=torch.channels_last)
    model.forward = lambda *args, **kwargs: compiled(model, *args, **kwargs)
    try:
        yield
    finally:
        del model.forward
        model.to(memory_format=torch.contiguous_format)
