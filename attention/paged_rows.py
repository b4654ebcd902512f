"""Short segments (a token, or a draft to verify) as one batch of pages.

One by one they would be thousands of tiny calls. Here the number of operations does not grow with
the number of sequences:

    pages      K0   K1   K2   K3   K4   K5        blocks of the pool, as they lie: no copy is made
    whose      a    a    b    a    c    b         a page that several share is also read for each
    scores     q_a  q_a  q_b  q_a  q_c  q_b       one batched product, [heads, pages, queries, size]
    softmax    a: 0 1 3      b: 2 5      c: 4     gathered by sequence; scores are small beside keys
    output     one batched product with V, summed by sequence (split-KV decoding, arXiv:2311.01282)

On a CPU the middle three are torch's own kernel, with every page as a row of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from mindsd.kvcache.pages import Pages
from mindsd.kvcache.step import Segment, Step

from .paged_call import PagedCall, Rule, by_head, visible, weigh

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
HIDDEN = -1e30  # not infinite: a page that a query sees nothing of weighs 0 against the others
SPARSE = 1.5  # pages that lie in between and are nobody's may cost so much more than a copy saves


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
        self.flat_rows = torch.tensor([row for _, row, _ in pairs], device=device)
        by_place = torch.zeros(self.number * self.places, dtype=torch.int64, device=device)
        self.entry_of = by_place.index_copy_(0, self.flat, self.entries)
        missing = torch.ones(self.number * self.places, dtype=torch.bool, device=device)
        missing[self.flat] = False
        self.missing = missing.view(self.number, self.places, 1, 1)

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

    def bias(self, call: PagedCall, q: Tensor) -> Tensor:
        """What is added to the scores of every entry: [N, 1, G * M, size] in the query's dtype."""
        size, width = self._step.pages.size, self.width
        seen = self.seen(call.sight.rule).view(self.number, width, self.places, size)
        by_place = seen.transpose(1, 2).flatten(0, 1).index_select(0, self.flat)
        hidden = torch.zeros(len(self.owners), width, size, dtype=q.dtype, device=q.device)
        hidden.index_copy_(0, self.entries, by_place.logical_not().to(q.dtype) * HIDDEN)
        return hidden[:, None].expand(-1, q.shape[2] // width, -1, -1).flatten(1, 2)[:, None]

    def put(self, out: Tensor, found: Tensor) -> None:
        """Into `out` [T, ...] the rows' own tokens of `found` [R, M, ...]."""
        if self.width == 1:
            out.index_copy_(0, self.tokens, found[:, 0])
            return
        for segment, own in zip(self._segments, found, strict=True):
            out[segment.start : segment.stop] = own[: segment.length]


def attend_rows(call: PagedCall, rows: Rows) -> Tensor:
    """[R, M, H, Dv] in the query's dtype."""
    heads = call.keys.data.shape[0]
    q = call.query.index_select(0, rows.tokens).view(rows.number, rows.width, heads, -1, call.dim)
    q = q.permute(0, 2, 3, 1, 4).reshape(rows.number, heads, -1, call.dim)
    out = _by_kernel(call, rows, q) if _has_kernel(call) else _by_products(call, rows, q)
    out = out.view(rows.number, heads, -1, rows.width, out.shape[-1])
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3).to(call.query.dtype)


def _has_kernel(call: PagedCall) -> bool:
    plain = call.softcap is None and call.sinks is None
    return call.query.device.type == "cpu" and plain and call.values.data.shape[-1] == call.dim


def _by_kernel(call: PagedCall, rows: Rows, q: Tensor) -> Tensor:
    """Each page through torch's kernel for CPUs, which also gives the logarithm of its weights'
    sum: by these the pages of a row are weighed (flash-decoding). q and result [R, heads, G, D]."""
    bias = call.step.plan(("bias", call.lane, call.sight, q.dtype), lambda: rows.bias(call, q))
    q = q.index_select(0, rows.owners)
    parts, length = [], 0
    if rows.run is not None:
        length = rows.run[1] - rows.run[0]
        pages = [own.slice(*rows.run) for own in (call.keys, call.values)]
        parts.append(_kernel(call, q[:length], pages, bias[:length]))
    if rows.extra is not None:
        pages = [own.read(rows.extra) for own in (call.keys, call.values)]
        parts.append(_kernel(call, q[length:], pages, bias[length:]))
    found, sums = (torch.cat(both) for both in zip(*parts, strict=True))
    if rows.places == 1:
        return found.index_select(0, rows.entry_of)
    sums = sums.index_select(0, rows.entry_of).view(rows.number, rows.places, *sums.shape[1:])
    weights = sums.masked_fill(rows.missing, -torch.inf).softmax(1).flatten(0, 1)[..., None]
    parts_of = found.index_select(0, rows.entries).float()
    out = weights.new_zeros(rows.number, *found.shape[1:])
    return out.index_add_(0, rows.flat_rows, parts_of * weights.index_select(0, rows.flat))


def _kernel(
    call: PagedCall, q: Tensor, pages: Sequence[Tensor], bias: Tensor
) -> tuple[Tensor, Tensor]:
    k, v = (own.transpose(0, 1) for own in pages)
    out, sums = FLASH(q, k, v, attn_mask=bias, scale=call.scale)
    return out, sums.view(q.shape[:3])


def _by_products(call: PagedCall, rows: Rows, q: Tensor) -> Tensor:
    """The same in plain products, for what the kernel lacks: softcap, sinks, other devices."""
    count, heads, size = rows.number, q.shape[1], call.step.pages.size
    seen = call.step.plan(("seen", call.lane, call.sight), lambda: rows.seen(call.sight.rule))
    per_entry = (q * call.scale).transpose(0, 1).index_select(1, rows.owners)
    scores = _products(call.keys, rows, per_entry, transposed=True)  # [heads, N, G * M, size]
    scores = scores.index_select(1, rows.entry_of).view(heads, count, rows.places, -1, size)
    scores = scores.permute(1, 0, 3, 2, 4).reshape(count, heads, -1, rows.width, rows.places * size)
    sinks = by_head(call.sinks, heads, scores.shape[2])
    weights = weigh(scores, seen, call.softcap, sinks).to(call.values.dtype)
    weights = weights.view(count, heads, -1, rows.places, size).permute(1, 0, 3, 2, 4)
    weights = weights.reshape(heads, count * rows.places, -1, size)
    by_entry = weights.new_zeros(heads, len(rows.owners), *weights.shape[2:])
    by_entry.index_copy_(1, rows.entries, weights.index_select(1, rows.flat))
    parts = _products(call.values, rows, by_entry, transposed=False).float()
    out = parts.new_zeros(heads, count, *parts.shape[2:])
    return out.index_add_(1, rows.owners, parts).transpose(0, 1).contiguous()


def _products(pages: Pages, rows: Rows, left: Tensor, *, transposed: bool) -> Tensor:
    """Every entry's [groups * M, x] times its page: the run as it lies, the rest from copies."""
    length, parts = 0, []
    if rows.run is not None:
        length = rows.run[1] - rows.run[0]
        right = pages.slice(*rows.run)
        parts.append(left[:, :length] @ (right.mT if transposed else right))
    if rows.extra is not None:
        right = pages.read(rows.extra)
        parts.append(left[:, length:] @ (right.mT if transposed else right))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
