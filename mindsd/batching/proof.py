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


def holds(call: Call, result: Any) -> bool:
    """Whether `result`, the call's share of a stacked forward, is what the call gives alone.

    Asked once for each form of call; later calls of a proven form cost nothing.
    """
    proven = call.batchable.proven
    if call.form in proven:
        return True
    (alone,), _ = stack.run([call])  # learns nothing: it was learned in the stacked forward
    pairs = zip(pytree.tree_leaves(result), pytree.tree_leaves(alone), strict=True)
    distances = [_distance(got, own) for got, own in pairs if _is_float(got)]
    if any(distance != distance for distance in distances):
        return True  # not a number: it proves nothing, and is not this call's neighbours' doing
    if any(distance > 1 for distance in distances):
        return False
    proven.add(call.form)
    return True


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _distance(got: torch.Tensor, alone: torch.Tensor) -> float:
    """In units of what rounding may make."""
    reference = alone.float()
    size = reference.norm().clamp_min(1e-12)
    return float((got.float() - reference).norm() / size) / TOLERANCE.get(got.dtype, HALF_TOLERANCE)
