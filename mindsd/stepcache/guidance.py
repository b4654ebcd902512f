"""Guidance cut-off: after a share of the steps the unconditional branch is not computed any more.

Classifier-free guidance adds scale * (conditional - unconditional). Late in the trajectory the
difference hardly matters (T-GATE, arXiv:2404.02747; guidance intervals, arXiv:2404.07724), so the
conditional prediction stands for both and the pipeline's own arithmetic goes on unchanged:

    rows of a call       unconditional | conditional       two calls          first   | second
    run                                  conditional       run                first
    handed to pipeline   conditional   | conditional       handed on          first   | first
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch.utils import _pytree as pytree

from mindsd.batching.call import Call
from mindsd.batching.stack import take


class Guidance(Enum):
    """How a pipeline calls its denoiser under guidance."""

    NEGATIVE_FIRST = "one call, unconditional rows first"
    POSITIVE_FIRST = "one call, conditional rows first"
    SEPARATE = "two calls, conditional first"


def conditional_rows(guidance: Guidance | None, rows: int, images: int) -> range | None:
    """Which rows of a call are the conditional ones; None where there is nothing to leave out."""
    if guidance not in (Guidance.NEGATIVE_FIRST, Guidance.POSITIVE_FIRST):
        return None
    if not images or rows != 2 * images:
        return None
    return range(images, rows) if guidance is Guidance.NEGATIVE_FIRST else range(images)


def run_conditional(original: Callable[..., Any], call: Call, rows: range) -> Any:
    """The call for its conditional rows only, their result given for both branches."""
    args, kwargs = take(call, list(rows)).arguments()
    result = original(*args, **kwargs)
    return pytree.tree_map(_twice, result, is_leaf=lambda node: isinstance(node, list))


def _twice(leaf: Any) -> Any:
    if isinstance(leaf, list):
        return [*leaf, *leaf]
    return torch.cat([leaf, leaf]) if isinstance(leaf, torch.Tensor) else leaf
