"""Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) for matrices, AdamW for the rest.

Every weight with two or more axes of at least 8 is moved by its momentum made orthogonal. The
Newton-Schulz iteration runs on the small Gram matrix instead of the wide momentum, on all weights
of one shape at a time; several workers share the shapes out.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from .workers import sum_over_workers, worker, workers

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MOMENTUM = 0.95


def orthogonalize(matrices: Tensor) -> Tensor:
    """Push the singular values of (batch, rows, columns) matrices towards 1; fp32 in and out."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT).mT
    a, b, c = COEFFICIENTS
    wide = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    eye = torch.eye(wide.shape[1], device=wide.device)
    gram = wide @ wide.mT
    total = None
    for _ in range(ITERATIONS):
        step = a * eye + b * gram + c * (gram @ gram)
        total = step if total is None else step @ total
        gram = step @ step @ gram
    assert total is not None
    return total @ wide


class Muon:
    """Both optimizers in one."""

    def __init__(
        self,
        named: Iterable[tuple[str, Tensor]],
        rate: float,
        adam_rate: float,
        exclude: tuple[str, ...] = (),
    ) -> None:
        """Weights whose name contains one of `exclude` go to AdamW whatever their shape."""
        self.rate, self.adam_rate = rate, adam_rate
        self.groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        self.adam_weights: list[Tensor] = []
        for name, weight in named:
            matrix = weight.ndim >= 2 and min(weight.shape[0], weight[0].numel()) >= 8
            if matrix and not any(word in name for word in exclude):
                self.groups[weight.shape].append(weight)
            else:
                self.adam_weights.append(weight)
        self.buffers = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }
        self.adam = torch.optim.AdamW(
            self.adam_weights, adam_rate, betas=(0.9, 0.99), weight_decay=0.0
        )

    @property
    def weights(self) -> list[Tensor]:
        return [*self.adam_weights, *(w for group in self.groups.values() for w in group)]

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """Move every weight by its gradient, at `scale` times the rates, and drop the gradients."""
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * scale
        self.adam.step()
        self.adam.zero_grad()
        updates = [
            self.update(shape, mine=index % workers() == worker())
            for index, shape in enumerate(self.groups)
        ]
        sum_over_workers(updates)
        for weights, update in zip(self.groups.values(), updates, strict=True):
            for weight, change in zip(weights, update, strict=True):
                weight.add_(change, alpha=-self.rate * scale)
                weight.grad = None

    def update(self, shape: torch.Size, mine: bool) -> Tensor:
        """The direction for all weights of one shape; zeros if another worker computes it."""
        buffer = self.buffers[shape]
        gradient = torch.stack([w.grad for w in self.groups[shape] if w.grad is not None])
        buffer.lerp_(gradient, 1 - MOMENTUM)
        if not mine:
            return torch.zeros_like(buffer)
        nesterov = gradient.lerp(buffer, MOMENTUM).contiguous().flatten(2)
        stretch = max(1.0, nesterov.shape[1] / nesterov.shape[2]) ** 0.5
        return (stretch * orthogonalize(nesterov)).reshape(buffer.shape)

    def state_dict(self) -> dict:
        buffers = {"x".join(map(str, shape)): b for shape, b in self.buffers.items()}
        return {"adam": self.adam.state_dict(), "buffers": buffers}

    def load_state_dict(self, state: dict) -> None:
        self.adam.load_state_dict(state["adam"])
        for shape, buffer in self.buffers.items():
            buffer.copy_(state["buffers"]["x".join(map(str, shape))])
