"""How query, key and value lie in memory, and back again."""

from __future__ import annotations

from torch import Tensor

from .checks import Checks

DENSE = {"BSH": 3, "SBH": 3, "BSND": 4, "BNSD": 4}  # the rank of each


def to_bnsd(x: Tensor, layout: str, heads: int) -> Tensor:
    """[B, N, S, D], a view where that is possible."""
    if layout == "BNSD":
        return x
    if layout == "BSND":
        return x.transpose(1, 2)
    split = x.reshape(x.shape[0], x.shape[1], heads, -1)
    return split.transpose(1, 2) if layout == "BSH" else split.permute(1, 2, 0, 3)


def from_bnsd(x: Tensor, layout: str) -> Tensor:
    """A contiguous tensor in the layout."""
    if layout == "BNSD":
        return x.contiguous()
    rows = x.permute(2, 0, 1, 3) if layout == "SBH" else x.transpose(1, 2)
    return (rows if layout == "BSND" else rows.flatten(2)).contiguous()


def check_rank(checks: Checks, layout: str, allowed: tuple[str, ...], **tensors: Tensor) -> None:
    """The layout's name is known and every tensor has its rank."""
    checks.need(layout in allowed, f"input_layout {layout!r} is none of {', '.join(allowed)}")
    rank = DENSE.get(layout, 3)
    for name, tensor in tensors.items():
        checks.need(
            tensor.dim() == rank, f"{name} has {tensor.dim()} dimensions, {layout} needs {rank}"
        )


def heads_in(x: Tensor, layout: str, dim: int) -> int:
    """How many heads of size `dim` the tensor has."""
    if layout in ("BSH", "SBH"):
        return x.shape[-1] // dim
    return x.shape[1] if layout in ("BNSD", "TND") else x.shape[2]
