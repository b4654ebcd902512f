"""Short segments (a token, or a draft to verify) of many sequences in a few calls.

One by one they would be thousands of tiny calls. Sequences of about one length are taken together:
their pages are copied side by side, and one call answers for all of them, with the heads of a group
as queries of one head.

    a   K0 K1 K3 ..      b   K2 K5 .. ..      | one row each, padded to the longest of the bucket
    c   K9                                    | a bucket of its own: padding it would cost more

On two cores of an AMD EPYC, 16 sequences of 257 tokens took 0.62 ms a layer so and 1.20 sequence by
sequence (float32; bfloat16: 0.51 and 2.03; benchmarks/pieces.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mindsd.kvcache.step import Segment, Step

from .paged_call import PagedCall, Rule, by_head, visible, weigh

PADDED = 1.5  # a bucket's longest row has at most so many times the pages of its shortest


def buckets(step: Step, lane: int, segments: Sequence[Segment]) -> list[Rows]:
    """Short segments as a few batches of about one length each."""
    found = [(segment, *visible(step, lane, segment)) for segment in segments]
    found.sort(key=lambda own: len(own[2]))
    parts: list[list[tuple[Segment, int, list[int]]]] = []
    for own in found:
        if parts and len(own[2]) <= max(PADDED * len(parts[-1][0][2]), len(parts[-1][0][2]) + 1):
            parts[-1].append(own)
        else:
            parts.append([own])
    return [Rows(step, part) for part in parts]


class Rows:
    """Short segments as one batch; made once for all layers of a lane.

    Attributes:
        number: R, how many segments.
        width: M, tokens of the longest.
        places: P, pages of the one that has most.
        blocks: int64 [R * P], the pages of each row; where it has fewer, its first again, which
            is not seen there.
    """

    def __init__(self, step: Step, parts: Sequence[tuple[Segment, int, list[int]]]):
        self.number = len(parts)
        self.segments = [segment for segment, _, _ in parts]
        self.width = max(segment.length for segment in self.segments)
        self.places = max(len(blocks) for _, _, blocks in parts)
        self._step = step
        self._firsts = [first for _, first, _ in parts]
        padded = [blocks + blocks[:1] * (self.places - len(blocks)) for _, _, blocks in parts]
        self.blocks = torch.tensor(padded, device=step.device).flatten()

    @cached_property
    def tokens(self) -> Tensor:
        """[R * M] int64: which token of the step stands where; padding repeats a row's last."""
        return torch.tensor(
            [
                segment.start + min(i, segment.length - 1)
                for segment in self.segments
                for i in range(self.width)
            ],
            device=self._step.device,
        )

    def seen(self, rule: Rule) -> Tensor:
        """Who sees whom: bool [R, M, P * size]."""
        size, device = self._step.pages.size, self._step.device
        past = torch.tensor([segment.past for segment in self.segments], device=device)
        total = torch.tensor([segment.total for segment in self.segments], device=device)
        firsts = torch.tensor(self._firsts, device=device)
        queries = (past[:, None] + torch.arange(self.width, device=device))[:, :, None]
        keys = (firsts[:, None] + torch.arange(self.places * size, device=device))[:, None]
        here = keys < total[:, None, None]
        # A rule may look positions up in a table: none is asked about keys that do not exist.
        last = (total - 1)[:, None, None]
        return rule(torch.minimum(queries, last), torch.minimum(keys, last)) & here

    def put(self, out: Tensor, found: Tensor) -> None:
        """Into `out` [T, ...] the rows' own tokens of `found` [R, M, ...]."""
        if self.width == 1:
            out.index_copy_(0, self.tokens, found[:, 0])
            return
        for segment, own in zip(self.segments, found, strict=True):
            out[segment.start : segment.stop] = own[: segment.length]


def attend_rows(call: PagedCall, rows: Rows) -> Tensor:
    """[R, M, H, Dv] in the query's dtype."""
    heads, size = call.keys.data.shape[0], call.step.pages.size
    q = call.query.index_select(0, rows.tokens)
    q = q.view(rows.number, rows.width, heads, -1, call.dim).permute(0, 2, 3, 1, 4)
    k, v = (
        pages.read(rows.blocks, call.step.pages.scratch(which))
        .view(heads, rows.number, rows.places * size, -1)
        .transpose(0, 1)
        for which, pages in enumerate((call.keys, call.values))
    )
    out = _attended(call, rows, q, k, v)
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3).to(call.query.dtype)


def _attended(call: PagedCall, rows: Rows, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[R, heads, groups, M, Dv] of q [R, heads, groups, M, D] and k, v [R, heads, keys, D]."""
    seen = call.step.plan(("seen", rows, call.sight), lambda: rows.seen(call.sight.rule))
    shape = q.shape[:4]
    if not call.plain:
        scores = (q.flatten(2, 3) * call.scale) @ k.mT
        sinks = by_head(call.sinks, shape[1], shape[2])
        weights = weigh(scores.view(*shape, -1), seen[:, None, None], call.softcap, sinks)
        return (weights.flatten(2, 3).to(v.dtype) @ v).view(*shape, -1)
    bias = call.step.plan(("bias", rows, call.sight), lambda: _bias(seen, shape[2], q.dtype))
    out = F.scaled_dot_product_attention(q.flatten(2, 3), k, v, attn_mask=bias, scale=call.scale)
    return out.view(*shape, -1)


def _bias(seen: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores: [R, 1, groups * M, keys]. A padded query sees what its last does."""
    bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    bias.masked_fill_(~seen, -torch.inf)
    return bias[:, None].expand(-1, groups, -1, -1).flatten(1, 2)[:, None]
