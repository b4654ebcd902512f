"""Attention of packed sequences over pages of keys and values.

Where a device has an operator for pages (registry.py), it answers for all but pictures. Elsewhere
long segments (chunks of prompts) are asked one by one, as calls like any other (contract.py). Short
ones are far too many for that: they are a few batches (paged_rows.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mindsd.kvcache.pages import Pages
from mindsd.kvcache.step import Segment

from .contract import Call
from .paged_call import PagedCall, by_head, visible, weigh
from .paged_rows import attend_rows, buckets
from .registry import Registry

SHORT = 16  # tokens of a segment that still joins a batch


def attend(call: PagedCall, registry: Registry) -> Tensor:
    """[T, H, Dv] in the query's dtype."""
    segments = call.step.segments
    # A single token is all overhead: where no backend is at home, no question is asked.
    at_home = call.query.device.type in registry.paged_devices
    backend = registry.choose_paged(call) if at_home else None
    if backend is not None and (texts := [own for own in segments if not own.whole]):
        out = backend.run(call, texts)
        return _fill(out, call, [own for own in segments if own.whole], registry)
    if len(segments) == 1 and segments[0].length == 1 and call.sight.causal and call.plain:
        return _single(call, segments[0])
    heads, dim = call.query.shape[1], call.values.data.shape[-1]
    return _fill(call.query.new_empty(call.query.shape[0], heads, dim), call, segments, registry)


def _fill(out: Tensor, call: PagedCall, segments: Sequence[Segment], registry: Registry) -> Tensor:
    """`out` with the rows of these segments, by operations that every device has."""
    # What a rule says of positions is the same for all rows of a batch; of images it is not.
    short = [own for own in segments if own.length <= SHORT and not own.whole]
    for segment in segments:
        if segment.length > SHORT or segment.whole:
            out[segment.start : segment.stop] = _long(call, segment, registry)
    if short:
        batch = call.step.plan(("rows", call.lane), lambda: buckets(call.step, call.lane, short))
        for rows in batch:
            rows.put(out, attend_rows(call, rows))
    return out


def _single(call: PagedCall, segment: Segment) -> Tensor:
    """One token of one sequence: a call as small as it can be, for it is all overhead."""
    _, blocks = visible(call.step, call.lane, segment)
    k, v = (_run(pages, blocks, segment.total) for pages in (call.keys, call.values))
    q = call.query.view(1, k.shape[0], -1, call.dim)  # heads of a group are queries of one head
    return F.scaled_dot_product_attention(q, k[None], v[None], scale=call.scale).flatten(1, 2)


def attend_slowly(call: PagedCall) -> Tensor:
    """The same, sequence by sequence in plain operations: what `attend` is compared with."""
    parts = []
    for segment in call.step.segments:
        first, blocks = visible(call.step, call.lane, segment)
        k, v = (_run(pages, blocks, segment.total - first) for pages in (call.keys, call.values))
        parts.append(_dense(call, segment, first, k, v))
    return torch.cat(parts)


def _run(pages: Pages, blocks: Sequence[int], length: int) -> Tensor:
    """The first `length` tokens of these blocks: [heads, length, dim]; a view where they can be."""
    first = blocks[0]
    if list(blocks) == list(range(first, first + len(blocks))):
        found = pages.slice(first, first + len(blocks))
    else:
        found = pages.read(torch.tensor(blocks, device=pages.data.device))
    return found.flatten(1, 2)[:, :length]


def _long(call: PagedCall, segment: Segment, registry: Registry) -> Tensor:
    first, blocks = visible(call.step, call.lane, segment)
    k, v = (_run(pages, blocks, segment.total - first) for pages in (call.keys, call.values))
    if not call.plain:
        return _dense(call, segment, first, k, v)
    q = call.query[segment.start : segment.stop].transpose(0, 1)
    if call.sight.causal and not segment.whole:
        asked = Call(q[None], k[None], v[None], causal=True, scale=call.scale)
    else:
        mask = call.step.plan(
            ("mask", segment, call.lane, call.sight),
            lambda: _seen(call, segment, first),
        )
        asked = Call(q[None], k[None], v[None], mask=mask, scale=call.scale)
    return registry.run(asked)[0].transpose(0, 1)


def _seen(call: PagedCall, segment: Segment, first: int) -> Tensor:
    """Who sees whom: bool [length, keys from `first` on].

    The tokens of a picture also see what comes after them of it; how far back they see is the
    layer's own matter (as in Gemma 3, arXiv:2503.19786).
    """
    queries, keys = _positions(segment, first, call.step.device)
    seen = call.sight.rule(queries, keys)
    for start, stop in segment.whole:
        inside = (queries >= start) & (queries < stop) & (keys < stop)
        seen = seen | (inside & (keys > queries))
    return seen


def _positions(segment: Segment, first: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of queries [length, 1] and of keys [1, total - first]."""
    queries = torch.arange(segment.past, segment.total, device=device)
    return queries[:, None], torch.arange(first, segment.total, device=device)[None]


def _dense(call: PagedCall, segment: Segment, first: int, k: Tensor, v: Tensor) -> Tensor:
    q = call.query[segment.start : segment.stop].transpose(0, 1) * call.scale
    length, groups = segment.length, q.shape[0] // k.shape[0]
    scores = q.reshape(k.shape[0], groups * length, -1) @ k.mT
    scores = scores.view(k.shape[0], groups, length, -1)
    seen = _seen(call, segment, first)
    weights = weigh(scores, seen, call.softcap, by_head(call.sinks, k.shape[0], groups))
    out = weights.to(v.dtype).reshape(k.shape[0], groups * length, -1) @ v
    return out.view(q.shape[0], length, -1).transpose(0, 1)
