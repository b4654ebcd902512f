"""A decoder layer's own forward beside the one in C, over the same random tokens.

Two texts are begun in one step and gone on with in another, over pages in no order, once seeing all
and once through a window. What is compared is what the layer adds to the hidden state, which is
made so small that the sum does not hide it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.kvcache.blocks import BlockPool
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.kvcache.table import Lane

from .decoder_parts import Parts
from .for_transformers import Rule
from .npu_offer import TOLERANCES, Offer
from .paged_call import Sight

SIZE = 4  # tokens of a block
TABLES = ([5, 1, 3, 8, 6, 7], [0, 4, 2])
BLOCKS = 9
STEPS = (
    ((20, 0), (4, 0)),
    ((1, 20), (2, 4)),
)  # (length, past); 20 is for tiles
WINDOWS = (None, 3)
SHARE = 0.25  # of what a layer adds: the hidden state's size
MORE = 1.5  # times the layer's own distance from float32

Run = Callable[..., Any]


@torch.inference_mode()
def offer_of(parts: Parts, run: Run) -> Offer:
    """C in the place of a layer, to be compared with the layer in float32.

    Rounding alone takes some layers far from that (scores of hundreds, which a softmax tells
    apart): C may be as far as the layer itself in its own dtype, and half as much again.
    """
    layer, dtype = parts.layer, parts.attention.q_proj.weight.dtype
    exact = layer if dtype is torch.float32 else _plain(layer).float()
    tolerance, expected = TOLERANCES[dtype], []
    for window in WINDOWS:
        added = _added(parts, layer.forward, 1.0, window, dtype)
        scale = SHARE * float(added[0].std().clamp(min=1e-3))
        wanted = _added(parts, exact.forward, scale, window, torch.float32)
        own = _added(parts, layer.forward, scale, window, dtype)
        apart = max(_apart(*pair) for pair in zip(wanted, own, strict=True))
        tolerance = max(tolerance, MORE * apart)
        expected.append((window, scale, wanted))

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        for window, scale, wanted in expected:
            ours = _added(parts, lambda *a, **k: run(_refuse, *a, **k), scale, window, dtype)
            yield from zip(wanted, ours, strict=True)

    return Offer("C", layer, run, trials, tolerance)


def _plain(layer: nn.Module) -> nn.Module:
    """A copy with nothing laid round any forward: that would still run the original."""
    twin = copy.deepcopy(layer)
    for module in twin.modules():
        vars(module).pop("forward", None)
    return twin


def _apart(wanted: Tensor, found: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("C did not take a plain step")


def _added(
    parts: Parts, forward: Run, scale: float, window: int | None, dtype: torch.dtype
) -> list[Tensor]:
    """[1, T, width] in float32 for each step: what a forward adds to its hidden state."""
    generator = torch.Generator().manual_seed(0)
    weight = parts.attention.q_proj.weight
    lanes = [Lane(BlockPool(BLOCKS, SIZE), window)]
    pages = PageStore([BLOCKS], SIZE, [0] * (parts.index + 1), "auto")
    found = []
    for texts in STEPS:
        step = Step(_segments(texts), pages, lanes, weight.device)
        drawn = torch.randn(1, step.tokens, weight.shape[1], generator=generator)
        hidden = (scale * drawn).to(weight.dtype).to(dtype)
        angles = torch.randn(1, step.tokens, parts.dim // 2, generator=generator).repeat(1, 1, 2)
        turn = [own.to(weight.dtype).to(dtype) for own in (angles.cos(), angles.sin())]
        with stepping(step):
            out = forward(hidden, attention_mask=_rule(window), position_embeddings=tuple(turn))
        found.append(out.float() - hidden.float())
    return found


def _segments(texts: tuple[tuple[int, int], ...]) -> list[Segment]:
    segments, start = [], 0
    for (length, past), table in zip(texts, TABLES, strict=True):
        segments.append(Segment(start, length, past, [table]))
        start += length
    return segments


def _rule(window: int | None) -> Rule:
    def seen(queries: Tensor, keys: Tensor) -> Tensor:
        causal = keys <= queries
        return causal if window is None else causal & (keys > queries - window)

    rule: Any = torch.empty(0).as_subclass(Rule)
    rule.sight = Sight(seen, window is None, window)
    return rule
