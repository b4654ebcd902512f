"""A denoising transformer by itself, tiny, with the call that its pipeline makes.

Calls bring ROWS rows of SIDE * SIDE image tokens and TEXT text tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch

from tests.zoo.weights import grow

ROWS, TEXT, SIDE, WIDTH = 2, 5, 4, 32
TOKENS = SIDE * SIDE
HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16}  # together WIDTH


@dataclass(frozen=True)
class Model:
    """One class of diffusers.

    Attributes:
        kind: its name.
        config: its sizes.
        call: makes the arguments of one forward from the present random numbers.
        note: what is special about the call.
    """

    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    call: Callable[[], dict[str, Any]] = dict
    note: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.note}".strip()

    def build(self) -> torch.nn.Module:
        return grow(getattr(diffusers, self.kind), **self.config)

    def asked(self, seed: int = 0) -> dict[str, Any]:
        """The arguments of a forward whose rows differ."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.call() | {"return_dict": False}


def noise(*shape: int) -> torch.Tensor:
    """One for each row."""
    return torch.randn(ROWS, *shape)


def text() -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": noise(TEXT, WIDTH)}


def mask() -> torch.Tensor:
    """The second row's text is shorter."""
    found = torch.ones(ROWS, TEXT, dtype=torch.bool)
    found[1, -2:] = False
    return found


def share() -> dict[str, torch.Tensor]:
    """A time as a share of noise."""
    return {"timestep": torch.tensor([0.5, 0.7])}


def time() -> dict[str, torch.Tensor]:
    """A time as a step of training."""
    return {"timestep": torch.tensor([500.0, 700.0])}


def positions(axes: int = 3) -> dict[str, torch.Tensor]:
    """Of image and text tokens, the same for all rows."""
    grid = torch.zeros(SIDE, SIDE, axes)
    grid[..., 1] += torch.arange(SIDE)[:, None]
    grid[..., 2] += torch.arange(SIDE)[None, :]
    return {"img_ids": grid.flatten(0, 1), "txt_ids": torch.zeros(TEXT, axes)}


def residuals(count: int) -> list[torch.Tensor]:
    """What a ControlNet adds between blocks."""
    return [noise(TOKENS, WIDTH) for _ in range(count)]
