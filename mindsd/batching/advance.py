"""From a forward's logits to tokens: drawn, drafts verified, and what is computed now noted."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import Any

import torch
from torch import Tensor

from mindsd.batching.chunk import Chunk
from mindsd.batching.counts import TokenCounts
from mindsd.batching.sequence import Sequence

Draw = Callable[[Tensor, Many[Any]], Many[Any]]
Went = dict[Sequence, list[Any] | Exception]


def advance(chunks: Many[Chunk], logits: Tensor, draw: Draw, counts: TokenCounts) -> Went:
    """What the sequences of a forward came to: the tokens drawn, or the error that is theirs alone.

    Args:
        logits: [R, V] of every place that draws, in the order of the chunks.
    """
    rows, went = _rows(chunks)
    flat = [row for own in rows.values() for row in own]
    if went:  # rows of logits that nobody draws from
        keep = [i for i, own in enumerate(_owners(chunks)) if own not in went]
        logits = logits[torch.tensor(keep, device=logits.device, dtype=torch.int64)]
    drawn = iter(draw(logits, flat) if flat else [])
    for chunk in chunks:
        own = chunk.sequence
        if own in went:
            continue
        found = [next(drawn) for _ in rows[own]]
        try:
            if chunk.draws:
                went[own] = _verified(own, draft_of(chunk), found, counts)
            elif _computed(own, chunk.stop) == 0:
                went[own] = []
        except Exception as error:
            went[own] = error
    return went


def draft_of(chunk: Chunk) -> list[int]:
    """The part of its sequence's draft that a chunk verifies."""
    return chunk.sequence.draft[: chunk.stop - len(chunk.sequence.tokens)]


def _rows(chunks: Many[Chunk]) -> tuple[dict[Sequence, list[Any]], Went]:
    rows: dict[Sequence, list[Any]] = {}
    failed: Went = {}
    for chunk in chunks:
        own = chunk.sequence
        try:
            rows[own] = own.draws.rows(own.tokens, draft_of(chunk)) if chunk.draws else []
        except Exception as error:
            failed[own], rows[own] = error, []
    return rows, failed


def _owners(chunks: Many[Chunk]) -> list[Sequence]:
    """Whose the rows of logits are."""
    drawing = [chunk for chunk in chunks if chunk.draws]
    return [chunk.sequence for chunk in drawing for _ in range(1 + len(draft_of(chunk)))]


def _verified(
    own: Sequence, draft: list[int], drawn: list[Any], counts: TokenCounts
) -> list[Any] | Exception:
    """What was drawn after the sequence, as far as the draft had guessed it.

    What is drawn at a place depends on the tokens before it and on its own random number alone,
    so a draft is right exactly where it guessed what is drawn anyway: the text is the same with
    and without it.
    """
    count = next((i for i, guess in enumerate(draft) if drawn[i].token != guess), len(draft))
    kept = drawn[: count + 1]
    failed = next((one.error for one in kept if one.error is not None), None)
    if failed is not None:
        return failed
    known = len(own.tokens)
    kept = kept[: own.draws.took([one.token for one in kept])]
    count = min(count, len(kept))
    own.tokens += [one.token for one in kept]
    own.draft = []
    own.table.cut(known + count)
    _computed(own, known + count)
    counts.drawn += len(kept)
    counts.drafted += len(draft)
    counts.accepted += count
    return kept


def _computed(own: Sequence, count: int) -> int:
    """Note that so many of its tokens are computed; how many are left."""
    own.computed = count
    own.table.computed(own.names, count)
    return own.left
