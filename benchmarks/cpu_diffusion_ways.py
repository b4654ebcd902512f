"""A model in each of the ways that are compared; every one gives it back as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from mindsd.allocator import keep_large
from mindsd.attention.cpu_fused import fuse_cpu
from mindsd.attention.for_diffusers import attach
from mindsd.attention.int8_layers import round_layers
from mindsd.attention.registry import default_registry
from mindsd.errors import RequestError

OURS = ("mindsd", "int8")
WAYS = ("eager", "channels_last", *OURS)


@contextmanager
def entered(way: str, model: nn.Module) -> Iterator[None]:
    """The model in one of the ways.

    Raises:
        RequestError: it cannot be had here.
    """
    with ExitStack() as stack:
        if way == "channels_last":
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            stack.callback(lambda: model.to(memory_format=torch.contiguous_format))  # pyright: ignore
        if way == "int8":
            if hasattr(model, "decode"):
                raise RequestError("only denoisers are rounded")
            stack.enter_context(round_layers(model))
        if way in OURS:
            for own in ours(model):
                stack.enter_context(own)
        yield
    gc.collect()  # weights that were packed lie in circles of references


def ours(model: nn.Module) -> Iterator[AbstractContextManager[Any]]:
    """What `LoadedModel` puts on the modules of a large model on a CPU."""
    fused = fuse_cpu(model)
    assert fused is not None
    yield fused
    yield keep_large()
    registry = default_registry()
    dtype = next(model.parameters()).dtype
    if registry.outdoes_torch(torch.device("cpu"), dtype):
        yield attach(model, registry)
