"""A module of somebody's model and what would run in its place, until it is trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Of the largest number. A wrong formula is off by ten times as much and more.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}


@dataclass(frozen=True, eq=False)
class Offer:
    """What could answer for a module.

    Attributes:
        operator: of torch_npu, or ours in Triton.
        module: whose forward it would be.
        run: (the module's own forward, its arguments) -> what it returns.
        trials: pairs of what the module gives and what `run` gives.
        tolerance: how far the two may differ, of the largest number.
        undo: to be called when it is taken off.
    """

    operator: str
    module: nn.Module
    run: Callable[..., Any]
    trials: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    tolerance: float
    undo: Callable[[], None] = lambda: None

    @torch.inference_mode()
    def wrong(self) -> str | None:
        """How it differs from the module itself, or None."""
        try:
            return next((why for pair in self.trials() if (why := self._apart(*pair))), None)
        except Exception as error:  # whatever a foreign kernel raises: it cannot be used here
            return f"{type(error).__name__}: {error}".split("\n")[0]

    def _apart(self, expected: Tensor, got: Tensor) -> str | None:
        if got.shape != expected.shape or got.dtype != expected.dtype:
            given = f"{got.dtype} {tuple(got.shape)}"
            return f"gives {given}, not {expected.dtype} {tuple(expected.shape)}"
        most = expected.abs().max().float().clamp(min=1e-6)
        apart = float((got.float() - expected.float()).abs().max() / most)
        within = apart <= self.tolerance  # false for NaN, too
        return None if within else f"is off by {apart:.2g}, {self.tolerance:.2g} is allowed"


def side_by_side(
    module: nn.Module,
    run: Callable[..., Tensor],
    *scales: float,
    width: int,
    like: Tensor,
    formula: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Trials of [1, 5, width] random tokens of each scale, like a weight.

    Args:
        formula: what a module means; None where its own forward says it.
    """

    def trials() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for scale in scales:
            drawn = torch.randn(1, 5, width, generator=generator, device="cpu") * scale
            sample = drawn.to(like.device, like.dtype)
            yield (formula or module.forward)(sample), run(module.forward, sample)

    return trials


def named(operator: str, weight: Tensor) -> str:
    """What people call the operator that answers for a module with such a weight."""
    return f"triton {operator}" if weight.device.type == "cuda" else f"npu_{operator}"


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether a fused operator takes this input: inference, of the weight's dtype and device."""
    same = x.dtype is weight.dtype and x.device == weight.device
    return same and x.numel() > 0 and not torch.is_grad_enabled()


def changed(module: nn.Module) -> bool:
    """Whether somebody laid a function round a module's forward, which ours would pass by."""
    return "forward" in vars(module) or bool(module._forward_hooks or module._forward_pre_hooks)
