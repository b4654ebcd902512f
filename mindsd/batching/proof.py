"""Rows must not know of each other: a first stacked forward is held against one call alone.

Nothing in a module's interface says so. A module that normalises over its batch, shares capacity
between rows or counts them would give every request a picture that its neighbours changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from mindsd.batching import stack
from mindsd.batching.call import Call

# Relative distance (L2) that rounding may make: other kernels serve other batch sizes, and TF32 or
# half precision widen it. Rows that mix are further apart by far.
TOLERANCE = {torch.float64: 1e-2, torch.float32: 1e-2}
HALF_TOLERANCE = 1e-1


def holds(calls: list[Call], results: list[Any]) -> bool:
    """Whether the first and the last call's shares of a stacked forward are what they give alone.

    Both, because what rows share may be given out in their order. Asked until a form of call is
    proven, by rows that really differ; later calls of that form cost nothing. Adapters see all that
    goes on inside, and are proven anew.
    """
    proven, form = calls[0].batchable.proven, (calls[0].form, any(call.adapters for call in calls))
    if form in proven:
        return True
    verdicts = [_agrees(calls[place], results[place]) for place in (0, -1)]
    if not all(verdict is not False for verdict in verdicts):
        return False
    if None not in verdicts and _differ(calls[0], calls[-1]):
        proven.add(form)
    return True


def _agrees(call: Call, result: Any) -> bool | None:
    """None when the call alone gives values that are not numbers: they prove nothing."""
    (alone,), _ = stack.run([call])  # learns nothing: it was learned in the stacked forward
    pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(alone), strict=True)
    floats = [(got, own) for got, own in pairs if _is_float(got)]
    if not all(own.isfinite().all() for _, own in floats):
        return None
    rounded = call.batchable.rounded
    return all(_distance(got, own, rounded) <= 1 for got, own in floats)  # not where it is none


def _differ(first: Call, last: Call) -> bool:
    """Whether two calls bring different rows: equal ones would agree whatever a module mixes."""
    tensors = (
        (mine, its)
        for mine, its in zip(first.leaves, last.leaves, strict=True)
        if isinstance(mine, torch.Tensor) and isinstance(its, torch.Tensor)
    )
    lists = any(isinstance(leaf, list) for leaf in first.leaves)
    return lists or any(a.shape != b.shape or not torch.equal(a, b) for a, b in tensors)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _distance(got: torch.Tensor, alone: torch.Tensor, rounded: bool) -> float:
    """In units of what rounding may make."""
    allowed = HALF_TOLERANCE if rounded else TOLERANCE.get(got.dtype, HALF_TOLERANCE)
    reference = alone.float()
    size = reference.norm().clamp_min(1e-12)
    return float((got.float() - reference).norm() / size) / allowed
