"""Counts where the host waits for the device, on plain torch: each read of a tensor's values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .log import Log

# Results that are host values, or whose shape depends on values.
WAITING = {
    "aten::_local_scalar_dense": "item",
    "aten::is_nonzero": "item",
    "aten::equal": "equal",
    "aten::nonzero": "nonzero",
    "aten::masked_select": "masked_select",
    "aten::_unique2": "unique",
    "aten::unique_dim": "unique",
    "aten::unique_consecutive": "unique",
    "aten::bincount": "bincount",
}


# Their result's size is a sum on the device, unless the caller says it.
REPEATING = ("aten::repeat_interleave.Tensor", "aten::repeat_interleave.self_Tensor")


def cause(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why this aten operator makes the host wait, or None."""
    if name in REPEATING:
        return None if kwargs.get("output_size") is not None else "repeat_interleave"
    if name == "aten::index.Tensor" or name.startswith("aten::index_put"):
        kinds = (torch.bool, torch.uint8)
        if any(i is not None and i.dtype in kinds for i in args[1]):
            return "nonzero"
    return WAITING.get(name)


class _Reads(TorchDispatchMode):
    """Reads that reach an operator. Emulated operators' own do not count."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if found := cause(func.name(), args, kwargs or {}):
            self.log.host_syncs[found] += 1
        return func(*args, **(kwargs or {}))


class _Moves(TorchFunctionMode):
    """Moves to the host, which are nothing at all for a tensor that is there already."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        to_host = func is Tensor.to and "cpu" in (
            value for value in (*args[1:], *named.values()) if isinstance(value, str)
        )
        if to_host or func in (Tensor.cpu, Tensor.numpy, Tensor.tolist):
            self.log.host_syncs["copy to the host"] += 1
        return func(*args, **named)


@contextmanager
def waits(log: Log) -> Iterator[None]:
    """Counts reads of any tensor's values in the log."""
    with _Moves(log), _Reads(log):
        yield
