"""How long drafts may be: a draft never costs another sequence its place, nor its own its end."""

from __future__ import annotations

from collections.abc import Sequence as Many

from mindsd.batching.sequence import Sequence
from mindsd.errors import RequestError

TOKENS = 64  # of all drafts in one forward; more of them keep prompts waiting


def draft_rooms(sequences: Many[Sequence], wishes: Many[int], tokens: int = TOKENS) -> list[int]:
    """How many tokens the draft of each may have, at most as many as it wishes.

    - With the token that is drawn after it, a draft stays within `max_tokens`, and so within the
      context window.
    - It takes only blocks that are left when every sequence has got one more: nobody is preempted,
      and nobody refused, for a draft.
    - All drafts together have at most `tokens`; the oldest come first.

    Args:
        sequences: that are decoding, in one cache.
        wishes: tokens.
    """
    if not sequences:
        return []
    lanes = sequences[0].table.lanes
    spare = min(lane.pool.available for lane in lanes) - len(sequences)
    rooms = [0] * len(sequences)
    for at in sorted(range(len(sequences)), key=lambda at: sequences[at].number):
        own, size = sequences[at], lanes[0].pool.size
        inside = len(own.table.blocks[0]) * size - len(own.tokens)
        if inside < 0:
            inside += size  # the block for its own last token
        reach = inside + max(0, spare) * size
        room = max(0, min(wishes[at], tokens, reach, _left(own) - 1))
        spare -= max(0, -(-(room - inside) // size))
        tokens -= room
        rooms[at] = room
    return rooms


def _left(own: Sequence) -> int:
    """Tokens that it may still draw."""
    return own.prompt + own.draws.sampling.max_tokens - len(own.tokens)


def allowed(own: Sequence, draft: list[int], ends: Many[int]) -> list[int]:
    """As much of a draft as the sequence's grammar may accept, and nothing behind its end.

    Args:
        ends: tokens that end a text. A grammar takes nothing after one, not even what the verifying
            forward draws there, so its own is left to be drawn.
    """
    grammar, sampling = own.draws.grammar, own.draws.sampling
    last = {*sampling.stop_token_ids, *(() if sampling.ignore_eos else ends)}
    stop = next((at + 1 for at, token in enumerate(draft) if token in last), len(draft))
    draft = draft[:stop]
    if grammar is None:
        return draft
    draft = draft[: next((at for at, token in enumerate(draft) if token in ends), len(draft))]
    try:
        return draft[: grammar.accepts(draft)] if draft else []
    except RequestError:  # a limit of the parser: told where the next token is drawn
        return []
