"""Guidance cut-off: after a share of the steps the unconditional branch is not computed any more.

Classifier-free guidance adds scale * (conditional - unconditional). Late in the trajectory that
difference matters less (T-GATE, arXiv:2404.02747), and as a difference of predicted noise it hardly
changes, so the last one that was computed stands for those to come, and the pipeline's own
arithmetic goes on unchanged.

    rows of a call       unconditional     | conditional       two calls          first | second
    run                                      conditional       run                first
    handed to pipeline   first - difference| first             handed on          first | first - d
"""

from __future__ import annotations

from enum import Enum


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
