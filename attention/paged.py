"""Attention of packed sequences over pages of keys and values.

Long segments (chunks of prompts) are asked one by one, as calls like any other (contract.py). Short
ones (a token, or a draft to verify) are far too many for that: they are one batch of their pages,
in a number of operations that does not grow with the number of sequences:

    pages      K0   K1   K2   K3   K4   K5        blocks of the pool, as they lie: no copy is made
    whose      a    a    b    a    c    b         a page that several share is also read for each
    scores     q_a  q_a  q_b  q_a  q_c  q_b       one batched product, [heads, pages, queries, size]
    softmax    a: 0 1 3      b: 2 5      c: 4     gathered by sequence; scores are small beside keys
    output     one batched product with V, summed by sequence (split-KV decoding, arXiv:2311.01282)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mindsd.kvcache.pages import Pages
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import GONE

from .contract import Call
from .registry import Registry

SHORT = 16  # tokens of a segment that still joins the batch of pages
SPARSE = 1.5  # pages that lie in between and are nobody's may cost so much more than a copy saves

Rule = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Sight:
    """Which keys a query sees.

    Attributes:
        rule: positions of queries and of keys (int64, broadcast together) -> bool.
        causal: the rule is no more than "not after its own position".
    """

    rule: Rule
    causal: bool = False


@dataclass(frozen=True, eq=False)
class PagedCall:
    """One layer's question in a step.

    Attributes:
        query: [T, H, D].
        keys, values: the layer's pages, this step's tokens already written.
        step: whose tokens they are.
        lane: of the layer.
        sight: who sees whom.
        scale: of the scores.
        softcap: scores become cap * tanh(scores / cap) (Gemma 2); None for none.
        sinks: [H] scores of a key that gives nothing (gpt-oss); None for none.
    """

    query: Tensor
    keys: Pages
    values: Pages
    step: Step
    lane: int
    sight: Sight
    scale: float
    softcap: float | None = None
    sinks: Tensor | None = None


def attend(call: PagedCall, registry: Registry) -> Tensor:
    """[T, H, Dv] in the query's dtype."""
    heads, dim = call.query.shape[1], call.values.data.shape[-1]
    out = call.query.new_empty(call.query.shape[0], heads, dim)
    segments = call.step.segments
    short = [segment for segment in segments if segment.length <= SHORT]
    for segment in segments:
        if segment.length > SHORT:
            out[segment.start : segment.stop] = _long(call, segment, registry)
    if short:
        rows = call.step.plan(("rows", call.lane), lambda: Rows(call.step, call.lane, short))
        seen = call.step.plan(("seen", call.lane, call.sight), lambda: rows.seen(call.sight.rule))
        rows.put(out, _short(call, rows, seen))
    return out


def attend_slowly(call: PagedCall) -> Tensor:
    """The same, sequence by sequence in plain operations: what `attend` is compared with."""
    parts = []
    for segment in call.step.segments:
        first, blocks = visible(call.step, call.lane, segment)
        k, v = (_run(pages, blocks, segment.total - first) for pages in (call.keys, call.values))
        parts.append(_dense(call, segment, first, k, v))
    return torch.cat(parts)


def visible(step: Step, lane: int, segment: Segment) -> tuple[int, list[int]]:
    """The first position whose page a segment may need, and its pages from there on."""
    size, blocks = step.pages.size, segment.blocks[lane]
    window = step.lanes[lane].window
    first = 0 if window is None else max(0, segment.past - window + 1) // size
    own = list(blocks[first : -(-segment.total // size)])
    assert GONE not in own, "a page was given back that is still seen"
    return first * size, own


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
    if call.softcap is not None or call.sinks is not None:
        return _dense(call, segment, first, k, v)
    q = call.query[segment.start : segment.stop].transpose(0, 1)
    if call.sight.causal:
        asked = Call(q[None], k[None], v[None], causal=True, scale=call.scale)
    else:
        mask = call.step.plan(
            ("mask", segment, call.lane, call.sight),
            lambda: call.sight.rule(*_positions(segment, first, call.step.device)),
        )
        asked = Call(q[None], k[None], v[None], mask=mask, scale=call.scale)
    return registry.run(asked)[0].transpose(0, 1)


def _positions(segment: Segment, first: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of queries [length, 1] and of keys [1, total - first]."""
    queries = torch.arange(segment.past, segment.total, device=device)
    return queries[:, None], torch.arange(first, segment.total, device=device)[None]


def _dense(call: PagedCall, segment: Segment, first: int, k: Tensor, v: Tensor) -> Tensor:
    q = call.query[segment.start : segment.stop].transpose(0, 1) * call.scale
    length, groups = segment.length, q.shape[0] // k.shape[0]
    scores = q.reshape(k.shape[0], groups * length, -1) @ k.mT
    scores = scores.view(k.shape[0], groups, length, -1)
    seen = call.sight.rule(*_positions(segment, first, call.step.device))
    weights = weigh(scores, seen, call.softcap, _by_head(call.sinks, k.shape[0], groups))
    out = weights.to(v.dtype).reshape(k.shape[0], groups * length, -1) @ v
    return out.view(q.shape[0], length, -1).transpose(0, 1)


def _by_head(sinks: Tensor | None, heads: int, groups: int) -> Tensor | None:
    return None if sinks is None else sinks.view(heads, groups, 1, 1)


def weigh(scores: Tensor, seen: Tensor, softcap: float | None, sinks: Tensor | None) -> Tensor:
    """Softmax in float32 over the last dimension; a query that sees nothing weighs nothing.

    Args:
        scores: [..., queries, keys].
        seen: bool, broadcasts with the scores.
        sinks: broadcasts with [..., queries, 1].
    """
    scores = scores.float()
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~seen, torch.finfo(torch.float32).min)
    if sinks is None:
        return scores.softmax(-1)
    sunk = sinks.float().expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sunk], -1).softmax(-1)[..., :-1]


class Rows:
    """Short segments as one batch of pages; made once for all layers of a lane.

    Attributes:
        number: R, how many segments.
        width: M, tokens of the longest.
        places: P, pages of the one that has most.
    """

    def __init__(self, step: Step, lane: int, segments: Sequence[Segment]):
        self.number = len(segments)
        self.width = max(segment.length for segment in segments)
        self._step, self._segments = step, segments
        found = [visible(step, lane, segment) for segment in segments]
        self._firsts = [first for first, _ in found]
        self._blocks = [blocks for _, blocks in found]
        self.places = max(len(blocks) for blocks in self._blocks)
        self._arrange()

    def _arrange(self) -> None:
        """Entries: pages in the order in which they are multiplied, each with its row."""
        pairs = [
            (block, row, place)
            for row, blocks in enumerate(self._blocks)
            for place, block in enumerate(blocks)
        ]
        numbers = {block for block, _, _ in pairs}
        low, high = min(numbers), max(numbers) + 1
        self.run = (low, high) if high - low <= SPARSE * len(numbers) + 1 else None
        length = high - low if self.run else 0
        owners, entries, extra = [0] * length, [], []
        taken: set[int] = set()
        for block, row, _ in pairs:
            if self.run and block not in taken:
                taken.add(block)
                owners[block - low] = row
                entries.append(block - low)
            else:
                entries.append(length + len(extra))
                extra.append((block, row))
        device = self._step.device
        self.owners = torch.tensor(owners + [row for _, row in extra], device=device)
        self.entries = torch.tensor(entries, device=device)
        self.extra = torch.tensor([block for block, _ in extra], device=device) if extra else None
        self.flat = torch.tensor(
            [row * self.places + place for _, row, place in pairs], device=device
        )
        by_place = torch.zeros(self.number * self.places, dtype=torch.int64, device=device)
        self.entry_of = by_place.index_copy_(0, self.flat, self.entries)

    @cached_property
    def tokens(self) -> Tensor:
        """[R * M] int64: which token of the step stands where; padding repeats a row's last."""
        return torch.tensor(
            [
                segment.start + min(i, segment.length - 1)
                for segment in self._segments
                for i in range(self.width)
            ],
            device=self._step.device,
        )

    def seen(self, rule: Rule) -> Tensor:
        """bool [R, 1, 1, M, P * size]."""
        size, device = self._step.pages.size, self._step.device
        past = torch.tensor([segment.past for segment in self._segments], device=device)
        total = torch.tensor([segment.total for segment in self._segments], device=device)
        firsts = torch.tensor(self._firsts, device=device)
        queries = (past[:, None] + torch.arange(self.width, device=device))[:, :, None]
        keys = (firsts[:, None] + torch.arange(self.places * size, device=device))[:, None]
        here = keys < total[:, None, None]
        # A rule may look positions up in a table: none is asked about keys that do not exist.
        last = (total - 1)[:, None, None]
        seen = rule(torch.minimum(queries, last), torch.minimum(keys, last)) & here
        return seen[:, None, None]

    def put(self, out: Tensor, found: Tensor) -> None:
        """Into `out` [T, ...] the rows' own tokens of `found` [R, M, ...]."""
        if self.width == 1:
            out.index_copy_(0, self.tokens, found[:, 0])
            return
        for segment, own in zip(self._segments, found, strict=True):
            out[segment.start : segment.stop] = own[: segment.length]


def _short(call: PagedCall, rows: Rows, seen: Tensor) -> Tensor:
    """[R, M, H, Dv]."""
    count, width, places = rows.number, rows.width, rows.places
    heads, size = call.keys.data.shape[0], call.step.pages.size
    groups = call.query.shape[1] // heads
    q = call.query.index_select(0, rows.tokens) * call.scale
    q = q.view(count, width, heads, groups, -1).permute(2, 0, 3, 1, 4)
    q = q.reshape(heads, count, groups * width, -1).index_select(1, rows.owners)
    scores = _products(call.keys, rows, q, transposed=True)  # [heads, N, groups * M, size]
    scores = scores.index_select(1, rows.entry_of).view(heads, count, places, -1, size)
    scores = scores.permute(1, 0, 3, 2, 4).reshape(count, heads, groups, width, places * size)
    sinks = _by_head(call.sinks, heads, groups)
    weights = weigh(scores, seen, call.softcap, sinks).to(call.values.dtype)
    weights = weights.view(count, heads, groups * width, places, size).permute(1, 0, 3, 2, 4)
    weights = weights.reshape(heads, count * places, groups * width, size)
    by_entry = weights.new_zeros(heads, len(rows.owners), groups * width, size)
    by_entry.index_copy_(1, rows.entries, weights.index_select(1, rows.flat))
    parts = _products(call.values, rows, by_entry, transposed=False).float()
    out = parts.new_zeros(heads, count, groups * width, parts.shape[-1])
    out.index_add_(1, rows.owners, parts)
    out = out.view(heads, count, groups, width, -1).permute(1, 3, 0, 2, 4)
    return out.reshape(count, width, heads * groups, -1).to(call.query.dtype)


def _products(pages: Pages, rows: Rows, left: Tensor, *, transposed: bool) -> Tensor:
    """Every entry's [groups * M, x] times its page: the run as it lies, the rest from copies."""
    length = 0
    parts = []
    if rows.run is not None:
        length = rows.run[1] - rows.run[0]
        right = pages.slice(*rows.run)
        parts.append(left[:, :length] @ (right.mT if transposed else right))
    if rows.extra is not None:
        right = pages.read(rows.extra)
        parts.append(left[:, length:] @ (right.mT if transposed else right))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def default_scale(dim: int) -> float:
    """1 / sqrt(head_dim), where a model names none."""
    return 1 / math.sqrt(dim)
