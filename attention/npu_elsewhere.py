"""diffusers' layers beside an NPU that is not theirs.

Where torch_npu is installed some layers of diffusers (GEGLU, RMSNorm) call its operators for
tensors wherever they lie, which fails for a model on the CPU. Those modules run the very same code
with one name meaning something else: that torch_npu is not there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from mindsd.wrap import Wrap, wrap

ASKS = "is_torch_npu_available"


def keep_off(model: nn.Module, devices: tuple[str, ...] = ("npu",)) -> list[Wrap]:
    """Let the layers of a model ask for an NPU's operators only for tensors that are there.

    Args:
        devices: kinds of devices that count as one.
    """
    if importlib.util.find_spec("torch_npu") is None:
        return []
    found = [(own, plain) for own in model.modules() if (plain := _plain(own)) is not None]
    return [wrap(own, "forward", _chosen(plain, devices)) for own, plain in found]


def _plain(module: nn.Module) -> Callable[..., Any] | None:
    """A module's own forward as it is without torch_npu; None where it never asks."""
    forward: Any = type(module).forward
    if not isinstance(forward, FunctionType) or ASKS not in forward.__code__.co_names:
        return None
    own = {**forward.__globals__, ASKS: lambda: False}
    again = FunctionType(
        forward.__code__, own, forward.__name__, forward.__defaults__, forward.__closure__
    )
    again.__kwdefaults__ = forward.__kwdefaults__
    return again.__get__(module)


def _chosen(plain: Callable[..., Any], devices: tuple[str, ...]) -> Callable[..., Any]:
    def run(original: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        answer = original if x.device.type in devices else plain
        return answer(x, *args, **kwargs)

    return run
