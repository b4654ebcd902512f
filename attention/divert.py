"""torch's scaled_dot_product_attention, answered by a registry while a function runs.

It stands on `torch.overrides.TorchFunctionMode`, torch's public hook, which belongs to one thread:
nothing is replaced in torch or in the caller, and no other thread notices.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mindsd.errors import RequestError

from .contract import Call
from .registry import Registry

DIVISIONS = (Tensor.div, Tensor.__truediv__)


class _Thread(threading.local):
    """Whether a diversion is on in this thread: the outermost one answers."""

    diverted = False


_thread = _Thread()


class Diversion:
    """Runs functions with torch's attention answered by a registry, and counts.

    Attributes:
        calls: how many calls the registry answered.
        passed: reason -> how many calls went to torch as they were, because our contract is for
            inference and cannot say them (dropout, gradients, broadcast batches).
    """

    def __init__(self, registry: Registry):
        self.registry = registry
        self.calls = 0
        self.passed: Counter[str] = Counter()

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """function(*args, **kwargs), which must not hand its thread to other work meanwhile."""
        if _thread.diverted:
            return function(*args, **kwargs)
        _thread.diverted = True
        try:
            with _Mode(self.answer):
                return function(*args, **kwargs)
        finally:
            _thread.diverted = False

    def answer(self, *args: Any, **kwargs: Any) -> Tensor:
        """What torch's function gives for its arguments, from the registry."""
        try:
            call = torch_call(*args, **kwargs)
        except RequestError as reason:
            self.passed[str(reason)] += 1
            return F.scaled_dot_product_attention(*args, **kwargs)
        self.calls += 1
        out = self.registry.run(call)
        query = kwargs["query"] if "query" in kwargs else args[0]
        return out if query.dim() == 4 else out.reshape(*query.shape[:-1], out.shape[-1])


class _Mode(TorchFunctionMode):
    def __init__(self, answer: Callable[..., Tensor]):
        super().__init__()
        self.answer = answer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            func = self.answer
        elif func in DIVISIONS and _by_one(*args):
            return args[0]  # diffusers divides what every layer gives, nearly always by one
        return func(*args, **(kwargs or {}))


def _by_one(given: Any, divisor: Any, *more: Any) -> bool:
    known = type(divisor) in (int, float) and divisor == 1 and isinstance(given, Tensor)
    return known and given.is_floating_point()


def torch_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Call:
    """The arguments of torch's function in the words of our contract.

    Raises:
        RequestError: our contract cannot say them.
    """
    if dropout_p > 0:
        raise RequestError("dropout is asked for")
    if torch.is_grad_enabled() and (
        query.requires_grad or key.requires_grad or value.requires_grad
    ):
        raise RequestError("gradients are asked for")
    if attn_mask is not None and is_causal:
        raise RequestError("is_causal beside a mask means what torch makes of it")
    q, k, v = _four_dimensions(query), _four_dimensions(key), _four_dimensions(value)
    if q.shape[1] != k.shape[1] and not enable_gqa:
        raise RequestError("heads differ without enable_gqa")
    if is_causal and q.shape[2] != k.shape[2]:  # torch aligns top-left, our contract bottom-right
        every = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
        return Call(q, k, v, mask=every.tril(), scale=scale)
    return Call(q, k, v, mask=attn_mask, causal=is_causal, scale=scale)


def _four_dimensions(tensor: Tensor) -> Tensor:
    """[..., tokens, head_dim] with leading ones up to four; the contract refuses more than four."""
    return tensor if tensor.dim() >= 4 else tensor.reshape((1,) * (4 - tensor.dim()) + tensor.shape)
