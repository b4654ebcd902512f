"""W8A8 with a scale for each output channel and each token, in plain torch: what the NPU's two
operators are documented to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from mindsd.wrap import wrap


def w8a8(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.t() + bias, both rounded to 8 bits; summed exactly, then rounded to x's dtype."""
    rows, inputs = _rounded(weight), _rounded(x)
    total = inputs[0].double() @ rows[0].double().t()
    out = total.float() * rows[1].t() * inputs[1]
    return (out if bias is None else out + bias.float()).to(x.dtype)


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers up to 127, and a scale for each row."""
    wide = x.detach().float()
    scale = wide.abs().amax(-1, keepdim=True) / 127
    return (wide / scale.clamp(min=1e-20)).round(), scale


@contextmanager
def emulated(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """These linear layers of a model compute so."""
    with ExitStack() as undone:
        for name in names:
            undone.enter_context(wrap(model.get_submodule(name), "forward", _of(model, name)))
        yield


def _of(model: nn.Module, name: str) -> Callable[..., Tensor]:
    linear: Any = model.get_submodule(name)
    return lambda original, x: w8a8(x, linear.weight, linear.bias)
