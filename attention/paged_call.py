"""What one layer asks about packed sequences over pages, and what every answer to it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mindsd.kvcache.pages import Pages
from mindsd.kvcache.step import Segment, Step
from mindsd.kvcache.table import GONE

Rule = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Sight:
    """Which keys a query sees.

    Attributes:
        rule: positions of queries and of keys (int64, broadcast together) -> bool.
        causal: the rule is no more than "not after its own position".
        window: the rule is that, and no more than so many tokens back, its own included.
    """

    rule: Rule
    causal: bool = False
    window: int | None = None


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

    @property
    def dim(self) -> int:
        """Of queries and keys."""
        return self.query.shape[-1]

    @property
    def plain(self) -> bool:
        """Whether its weights are a softmax of the scores as they are, as kernels know it."""
        return self.softcap is None and self.sinks is None


class PagedBackend(Protocol):
    """One way to attend over pages.

    Attributes:
        name: for people.
        devices: kinds of devices where it may take a call.
    """

    @property
    def name(self) -> str: ...

    @property
    def devices(self) -> tuple[str, ...]: ...

    def refuses(self, call: PagedCall) -> str | None:
        """Why this call cannot be computed exactly, or None. Cheap: asked in every layer."""
        ...

    def run(self, call: PagedCall, segments: Sequence[Segment]) -> Tensor:
        """[T, H, Dv] for the whole step; only the rows of these segments are answers.

        No segment has pictures: what is `whole` of it is not looked at.
        """
        ...


def no_sight(call: PagedCall) -> str | None:
    """Why what its queries see is neither all before them nor a window that the cache keeps."""
    window, kept = call.sight.window, call.step.lanes[call.lane].window
    if not call.sight.causal and window is None:
        return "what a query sees is neither causal nor a window"
    if kept is not None and (window is None or window > kept):
        return f"a query sees {window or 'all'} tokens, the cache keeps {kept}"
    return None


def visible(step: Step, lane: int, segment: Segment) -> tuple[int, list[int]]:
    """The first position whose page a segment may need, and its pages from there on."""
    size, blocks = step.pages.size, segment.blocks[lane]
    window = step.lanes[lane].window
    first = 0 if window is None else max(0, segment.past - window + 1) // size
    own = list(blocks[first : -(-segment.total // size)])
    assert GONE not in own, "a page was given back that is still seen"
    return first * size, own


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


def by_head(sinks: Tensor | None, heads: int, groups: int) -> Tensor | None:
    return None if sinks is None else sinks.view(heads, groups, 1, 1)


def default_scale(dim: int) -> float:
    """1 / sqrt(head_dim), where a model names none."""
    return 1 / math.sqrt(dim)
