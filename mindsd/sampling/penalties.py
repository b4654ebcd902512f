"""Bias and penalties: what is added to or taken off the logits of single tokens.

Only the tokens that a row names are touched: their places are gathered over all rows and written in
one go, so that the cost follows what was said, not the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch

from mindsd.sampling.parameters import Sampling


class History(Protocol):
    """A row with what it said so far."""

    @property
    def sampling(self) -> Sampling: ...

    @property
    def tokens(self) -> Sequence[int]:
        """Prompt and output."""
        ...

    @property
    def prompt(self) -> int:
        """How many of the tokens are prompt."""
        ...


def penalised(sampling: Sampling) -> bool:
    """Whether `penalise` would change anything."""
    counts = sampling.presence_penalty or sampling.frequency_penalty
    return bool(sampling.logit_bias or counts or sampling.repetition_penalty != 1.0)


def penalise(scores: torch.Tensor, rows: Sequence[History]) -> None:
    """Apply bias, then the repetition penalty, then frequency and presence, in place.

    This is vLLM's order (`apply_logits_processors`, then `apply_all_penalties`), and transformers'
    for the two that it has. A token of the history that the vocabulary lacks is passed over: it
    cannot be drawn.

    Args:
        scores: [R, V] float32, contiguous.
        rows: R histories. Every token that has a bias is below V.
    """
    _add(scores, [dict(row.sampling.logit_bias).items() for row in rows])
    _repeat(scores, rows)
    _add(scores, [_counted(row) for row in rows])


def _add(scores: torch.Tensor, amounts: Sequence[Iterable[tuple[int, float]]]) -> None:
    vocabulary = scores.shape[-1]
    places, values = [], []
    for at, pairs in enumerate(amounts):
        for token, amount in pairs:
            if 0 <= token < vocabulary:
                places.append(at * vocabulary + token)
                values.append(amount)
    if places:
        added = torch.tensor(values, dtype=scores.dtype, device=scores.device)
        scores.view(-1).index_add_(0, torch.tensor(places, device=scores.device), added)


def _repeat(scores: torch.Tensor, rows: Sequence[History]) -> None:
    vocabulary = scores.shape[-1]
    places: list[int] = []
    factors: list[float] = []
    for at, row in enumerate(rows):
        factor = row.sampling.repetition_penalty
        if factor != 1.0:
            own = [at * vocabulary + t for t in set(row.tokens) if 0 <= t < vocabulary]
            places += own
            factors += [factor] * len(own)
    if places:
        index = torch.tensor(places, device=scores.device)
        factor = torch.tensor(factors, dtype=scores.dtype, device=scores.device)
        old = scores.view(-1).index_select(0, index)
        scores.view(-1).index_copy_(0, index, torch.where(old > 0, old / factor, old * factor))


def _counted(row: History) -> list[tuple[int, float]]:
    presence, frequency = row.sampling.presence_penalty, row.sampling.frequency_penalty
    if not presence and not frequency:
        return []
    counts = Counter(row.tokens[row.prompt :])
    return [(token, -(presence + frequency * count)) for token, count in counts.items()]
