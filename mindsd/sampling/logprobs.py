"""What a token's probability was, and which others were likely."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mindsd.sampling.candidates import leading

WIDTH = 32  # fixed, so that which of equal ones a row is told does not depend on its neighbours

Told = tuple[float | None, tuple[tuple[int, float], ...]]


def told(logits: torch.Tensor, tokens: Sequence[int], counts: Sequence[int | None]) -> list[Told]:
    """The log-probability of each row's token, and its likeliest tokens with theirs.

    They are of the model's own distribution, before bias, penalties, masks and temperature (as
    OpenAI's, and vLLM's `raw_logprobs`), so a token that was drawn need not be among the likeliest.

    Args:
        logits: [R, V] float32, as the model made them.
        tokens: R tokens below V.
        counts: how many of the likeliest each row wants, up to 32; None wants nothing at all.

    Returns:
        For each row (None, ()) if it wants nothing, else the log-probability and the pairs,
        likeliest first, the lower token first among equal ones. Impossible tokens are left out.
    """
    answers: list[Told] = [(None, ())] * len(tokens)
    asking = [at for at, count in enumerate(counts) if count is not None]
    if not asking:
        return answers
    index = torch.tensor(asking, device=logits.device)
    own = logits.index_select(0, index).log_softmax(dim=-1)
    drawn = torch.tensor([[tokens[at]] for at in asking], device=logits.device)
    chosen = own.gather(-1, drawn)[:, 0].tolist()
    values, ids = (part.tolist() for part in leading(own, WIDTH))
    for place, at in enumerate(asking):
        pairs = list(zip(ids[place], values[place], strict=True))[: counts[at]]
        answers[at] = chosen[place], tuple(pair for pair in pairs if pair[1] > -math.inf)
    return answers
