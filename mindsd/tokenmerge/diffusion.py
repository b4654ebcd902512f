"""Token merging round a denoiser's self-attention, without touching its code.

    norm -> [merge] -> attn1 on N - r tokens -> [unmerge] -> + residual

Which requests merge is decided per forward: all its rows belong to trajectories with equal options
(their group is part of the call's key). Matchings belong to the trajectories: one for each image
and resolution, shared by blocks and guidance branches, made anew every few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from mindsd.batching.rows import Forward, present_forward
from mindsd.stepcache.trajectory import Position
from mindsd.tokenmerge.match import Matching, Matchings, destinations, match
from mindsd.tokenmerge.plan import TokenMerge
from mindsd.wrap import Wrap, wrap


@dataclass
class _Merged:
    """One forward that merges.

    Attributes:
        side: height and width of the latents.
        matchings: by number of tokens, for the blocks of this forward.
    """

    plan: TokenMerge
    positions: list[Position]
    numbers: list[int]
    side: tuple[int, int]
    forward: Forward
    matchings: dict[int, Matchings]


class MergedDenoiser:
    """Wraps a denoiser's self-attention; forwards of other requests pass through."""

    def __init__(self, module: nn.Module):
        self._module = module
        self._now: ContextVar[_Merged | None] = ContextVar("merged", default=None)
        self._wraps: list[Wrap] = [
            wrap(block.attn1, "forward", self._attend)
            for block in module.modules()
            if isinstance(block, BasicTransformerBlock) and not block.only_cross_attention
        ]
        self.blocks = len(self._wraps)
        if self.blocks:
            self._wraps.append(wrap(module, "forward", self._forward))

    def remove(self) -> None:
        """Take everything off the denoiser."""
        for own in reversed(self._wraps):
            own.remove()

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        sample = args[0] if args else next(iter(kwargs.values()))
        if not isinstance(sample, Tensor) or sample.ndim != 4:
            return original(*args, **kwargs)
        with present_forward(len(sample)) as forward:
            before = self._now.set(_merged(forward, sample))
            try:
                return original(*args, **kwargs)
            finally:
                self._now.reset(before)

    def _attend(
        self, original: Callable[..., Any], tokens: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        now = self._now.get()
        if now is None or tokens.ndim != 3 or tokens.shape[1] < now.plan.tokens or args:
            return original(tokens, *args, **kwargs)
        grid = _grid(now.side, tokens.shape[1])
        plain = kwargs.get("encoder_hidden_states") is None and kwargs.get("attention_mask") is None
        if grid is None or not plain:
            return original(tokens, **kwargs)
        if now.plan.way == "downsample":
            return original(tokens, **{**kwargs, "encoder_hidden_states": _fewer(tokens, grid)})
        matchings = self._matchings(now, tokens, grid)
        return matchings.unmerge(original(matchings.merge(tokens), **kwargs))

    def _matchings(self, now: _Merged, tokens: Tensor, grid: tuple[int, int]) -> Matchings:
        """Those of this forward's rows at this resolution."""
        known = now.matchings.get(tokens.shape[1])
        if known is not None:
            return known
        own: dict[tuple[int, int], Matching] = {}
        owners = []
        for position, number, row in zip(now.positions, now.numbers, tokens, strict=True):
            owner = (id(position.trajectory), _image(position, number))
            if owner not in own:
                own[owner] = self._matching(now, position, owner[1], row, grid)
            owners.append(owner)
        now.matchings[tokens.shape[1]] = Matchings.of([own[owner] for owner in owners])
        return now.matchings[tokens.shape[1]]

    def _matching(
        self, now: _Merged, position: Position, image: int, tokens: Tensor, grid: tuple[int, int]
    ) -> Matching:
        """The image's own, made anew when it is older than `refresh` steps."""
        trajectory, key = position.trajectory, (id(self._module), tokens.shape[0], image)
        made = trajectory.merges.get(key)
        if made is not None and position.index - made[0] < now.plan.refresh * trajectory.order:
            return made[1]
        chosen = destinations(*grid, seed=trajectory.seed + image).to(tokens.device)
        found = match(tokens, chosen, round(now.plan.ratio * tokens.shape[0]))
        now.forward.learned.append(
            partial(trajectory.merges.__setitem__, key, (position.index, found))
        )
        return found


def _merged(forward: Forward, sample: Tensor) -> _Merged | None:
    """This forward's plan; None when its rows do not merge."""
    positions = [row.tag for row in forward.rows if isinstance(row.tag, Position)]
    if len(positions) < len(forward.rows) or not positions or positions[0].group is None:
        return None
    numbers = [row.tag.row(row.number) for row in forward.rows]
    side = (sample.shape[2], sample.shape[3])
    return _Merged(positions[0].group, positions, numbers, side, forward, {})


def _image(position: Position, row: int) -> int:
    """Which image of its trajectory a row draws: both guidance branches draw the same ones."""
    images = position.trajectory.images
    return row % images if images else row


def _grid(side: tuple[int, int], tokens: int) -> tuple[int, int] | None:
    """Height and width of the tokens' grid: the latents', shrunk by a whole power of two."""
    height, width = side
    while height * width > tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    return (height, width) if height * width == tokens and min(height, width) > 1 else None


def _fewer(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Every second token of every second row of the grid: [B, N / 4, C]."""
    return tokens.unflatten(1, grid)[:, ::2, ::2].flatten(1, 2).contiguous()
