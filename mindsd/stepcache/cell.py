"""What a request keeps of one row between steps, for one guidance branch and solver stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.plan import Kind


@dataclass
class DeepCell:
    """Of what a denoiser computes deep inside.

    Attributes:
        key: shapes and constants of the call that made it; another key starts afresh.
        deep: the deep value.
        feature: the cheap feature of the previous step (adaptive only), a few numbers.
        moved: its accumulated relative change since the last whole step.
        reused: forecasts since then.
    """

    key: Any
    deep: Anchor | None = None
    feature: torch.Tensor | None = None
    moved: float = 0.0
    reused: int = 0

    def went(self, kind: Kind, moved: float) -> None:
        """An adaptive step was of this kind, after so much change in all."""
        self.moved, self.reused = (0.0, 0) if kind is Kind.WHOLE else (moved, self.reused + 1)


@dataclass(frozen=True)
class Form:
    """How a denoiser gives its rows: as one tensor or one list, in whatever it is wrapped.

    Attributes:
        spec: the wrapping.
        listed: whether it is a list.
    """

    spec: pytree.TreeSpec
    listed: bool

    @classmethod
    def of(cls, result: Any, rows: int) -> tuple[Form | None, list[Tensor]]:
        """The form of a result and its rows; None where it is not just one row for each."""

        def items(node: Any) -> bool:
            return isinstance(node, list) and len(node) == rows

        leaves, spec = pytree.tree_flatten(result, is_leaf=items)
        found = [leaf for leaf in leaves if leaf is not None]
        if len(leaves) != 1 or not found or not isinstance(found[0], list | Tensor):
            return None, []
        return (cls(spec, items(found[0])), list(found[0])) if len(found[0]) == rows else (None, [])

    def build(self, rows: list[Tensor]) -> Any:
        """A result of this form."""
        return pytree.tree_unflatten([rows if self.listed else torch.stack(rows)], self.spec)


@dataclass
class OutputCell:
    """Of a denoiser's output.

    Attributes:
        key: shapes and constants of the call that made it; another key starts afresh.
        form: how the denoiser gave it.
        value: what of its outputs is forecast (course.py), float32.
        curvature, due: with a tolerance, how far off the last forecast was for what the distances
            contribute, and the step that is computed at the latest.
    """

    key: Any
    form: Form | None = None
    value: Anchor | None = None
    curvature: float | None = None
    due: int = 0
