"""One structure of block, compiled once for all blocks of a model that have it.

torch keeps what it compiled with a function's code, and gives up on a code that needed more than
eight forms. So each structure has a code of its own, and rows are told to vary from the start: one
form serves one row, another any larger number. Sizes of images vary from the second on.
`fullgraph` makes what torch cannot compile an error, where it would go on in pieces and in silence.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Hashable
from contextlib import suppress
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mindsd.device import is_out_of_memory

from .npu_offer import TOLERANCES
from .twin import structure

ROUNDED = 0.15  # of the largest number, where weights and inputs are rounded to 8 bits
_kinds: dict[Hashable, Kind] = {}


class Kind:
    """What blocks of one structure share; made by `kind_of`.

    Attributes:
        wrong: why it is not used; None while it is.
    """

    def __init__(self, module: nn.Module, backend: Any, tolerance: float | None):
        self.name = type(module).__name__
        self.wrong: str | None = None
        self._compiled = torch.compile(_entry(self.name), fullgraph=True, backend=backend)
        self._tolerance = tolerance
        self._tried = False

    def run(
        self, bare: nn.Module, original: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """What the compiled block gives; what its own code gives where that fails.

        The first time both run, and the own result is given.
        """
        found, failed = None, None
        try:
            _vary_rows(args, kwargs)
            if self._tried:
                return self._compiled(bare, args, kwargs)
            found = self._compiled(bare, *pytree.tree_map_only(Tensor, _copy, (args, kwargs)))
        except Exception as error:  # whatever a compiler raises
            if is_out_of_memory(error):
                raise
            lines = f"{type(error).__name__}: {error}".splitlines()
            failed = " ".join(own.strip() for own in lines[:2])  # the second says what it was
        result = original(*args, **kwargs)  # raises what is wrong with the call itself
        if failed is None:
            failed = self._apart(found, result)
        if failed is not None:
            self._give_up(failed)
        return result

    def _apart(self, found: Any, expected: Any) -> str | None:
        """How they differ, or None; it is tried once there were finite numbers to compare."""
        for own, theirs in zip(
            pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True
        ):
            if not isinstance(theirs, Tensor) or not theirs.is_floating_point():
                continue
            allowed = self._tolerance or TOLERANCES.get(theirs.dtype, 1e-4)
            most = theirs.abs().max().float().clamp(min=1e-6)
            self._tried = self._tried or bool(most.isfinite())
            apart = float((own.float() - theirs.float()).abs().max() / most)
            if most.isfinite() and not apart <= allowed:
                return f"is off by {apart:.2g}, {allowed:.2g} is allowed"
        return None

    def _give_up(self, why: str) -> None:
        self.wrong = why
        with suppress(RuntimeWarning):  # where warnings are errors it is still no request's error
            warnings.warn(
                f"{self.name} is not compiled, its own code runs: {why}",
                RuntimeWarning,
                stacklevel=2,
            )


def kind_of(module: nn.Module, backend: Any, tolerance: float | None = None) -> Kind:
    """The kind of a bare module; models of equal structure share it, also one after the other.

    Args:
        backend: of `torch.compile`.
        tolerance: of the largest number; None for what the dtype's rounding may move.
    """
    key = (structure(module), str(backend), tolerance)
    return _kinds.setdefault(key, Kind(module, backend, tolerance))


def why_no_compiler(device: str) -> str | None:
    """Why nothing can be compiled for a kind of device, or None."""
    if device == "cuda":
        return None if find_spec("triton") else "triton is not installed"
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"there is no C++ compiler {compiler!r}"


def _entry(name: str) -> Callable[..., Any]:
    def region(module: Any, args: Any, kwargs: Any) -> Any:
        return module.forward(*args, **kwargs)  # its hooks ran when it was called

    return FunctionType(region.__code__.replace(co_name=name), globals(), name)


def _vary_rows(args: Any, kwargs: dict[str, Any]) -> None:
    """Let the first dimension of every tensor that has as many rows as the first one vary."""
    given = [own for own in (*args, *kwargs.values()) if isinstance(own, Tensor) and own.ndim]
    rows = given[0].shape[0] if given else 1
    if rows > 1:
        for own in given:
            if own.shape[0] == rows:
                torch._dynamo.maybe_mark_dynamic(own, 0)


def _copy(tensor: Tensor) -> Tensor:
    """One that a block may write into; of the same sort, for torch compiles anew for another."""
    with torch.inference_mode(tensor.is_inference()):
        again = tensor.clone()
    if tensor.ndim and tensor.shape[0] > 1:
        torch._dynamo.maybe_mark_dynamic(again, 0)
    return again
