"""Random weights that are the same in every run and leave no part of a model silent."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

M = TypeVar("M", bound=torch.nn.Module)


def grow(kind: type[M], *args: Any, seed: int = 0, **config: Any) -> M:
    """A module of this class with random weights, in fp32, ready for inference.

    Weights that a class starts as constants (the zero convolutions of ControlNet, the last layers
    of many transformers) get noise too: a part that gives nothing would hide mistakes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind(*args, **config)
        with torch.no_grad():
            for weight in module.parameters():
                if weight.min() == weight.max():
                    weight.add_(torch.randn_like(weight) * 0.05)
    return module.eval()
