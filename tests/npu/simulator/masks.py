"""What a mask, a sparse mode and the token reach hide: one bool tensor, TRUE = DROP.

mode 0  the mask and the reach, counted from the top left; without a mask nothing is hidden
mode 1  the mask alone
mode 2  causal from the top left      } these need the 2048x2048 upper triangle, which stands
mode 3  causal from the bottom right  } for a mask of any size
mode 4  the reach, from the bottom right
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .checks import Checks, Strict

FAR = 2147483647
SIDE = 2048  # of the triangle that modes 2, 3 and 4 take instead of a mask


@dataclass(frozen=True)
class Sparse:
    """How a call hides keys.

    Attributes:
        mask: bool, uint8 or int8, TRUE = DROP, or None.
        mode: sparse_mode.
        before: pre_tokens: a row sees so many keys before its position.
        after: next_tokens: and so many after it; negative hides its own, too.
    """

    mask: Tensor | None
    mode: int
    before: int = FAR
    after: int = FAR


def check_mask(
    checks: Checks, sparse: Sparse, shapes: set[tuple[int, ...]], integers: tuple[torch.dtype, ...]
) -> None:
    """The mask's dtype and shape fit the mode; `shapes` are those that modes 0 and 1 take."""
    mask, mode = sparse.mask, sparse.mode
    if mask is None:
        checks.need(mode == 0, f"sparse_mode {mode} needs an atten_mask, got None")
        return
    kinds = (torch.bool, *integers)
    checks.need(mask.dtype in kinds, f"atten_mask is {mask.dtype}, expected one of {kinds}")
    shape = tuple(mask.shape)
    if mode in (0, 1):
        ordered = sorted(shapes, key=lambda s: (len(s), s))
        checks.need(shape in shapes, f"get unsupported atten_mask shape {shape}, needs {ordered}")
        return
    checks.need(
        shape in {(SIDE, SIDE), (1, SIDE, SIDE), (1, 1, SIDE, SIDE)},
        f"sparse_mode {mode} needs the compressed {SIDE}x{SIDE} atten_mask, got {shape}",
    )
    checks.need(
        torch.equal(mask.reshape(SIDE, SIDE).bool(), triangle()),
        f"the compressed atten_mask of sparse_mode {mode} must be triu(ones, 1)",
    )
    if mode == 4:
        checks.need(
            sparse.before + sparse.after >= 0,
            f"pre_tokens {sparse.before} and next_tokens {sparse.after} do not meet",
        )


@cache
def triangle() -> Tensor:
    """[2048, 2048] bool: everything right of the diagonal."""
    return torch.ones(SIDE, SIDE, dtype=torch.bool).triu(1)


def dropped(sparse: Sparse, rows: int, keys: int) -> Tensor | None:
    """TRUE = DROP, [.., rows, keys] with the mask's leading dimensions, or None for nothing.

    The mask of modes 0 and 1 must already be cut to these rows and keys.
    """
    mask, mode = sparse.mask, sparse.mode
    if mask is None:
        return None
    if mode == 1:
        return mask.bool()
    if mode == 0:
        return mask.bool() | _outside(rows, keys, 0, sparse.before, sparse.after)
    if mode == 2:
        return _outside(rows, keys, 0, FAR, 0)
    if mode == 3:
        return _outside(rows, keys, keys - rows, FAR, 0)
    return _outside(rows, keys, keys - rows, sparse.before, sparse.after)


def _outside(rows: int, keys: int, shift: int, before: int, after: int) -> Tensor:
    """[rows, keys]: keys farther than the reach from the row's position, row + shift."""
    here = torch.arange(rows).unsqueeze(1) + shift
    key = torch.arange(keys).unsqueeze(0)
    return (key > here + after) | (key < here - before)


def handle_blind(
    checks: Checks, strict: Strict, drop: Tensor | None, sparse: Sparse, corrected: bool
) -> Tensor | None:
    """Rows that are wholly dropped: 0 where the operator corrects them, else refused or averaged.

    Args:
        corrected: inner_precise asks for the correction. Mode 3 with more rows than keys has it
            by itself.
    """
    if drop is None or corrected or sparse.mode == 3:
        return drop
    blind = drop.all(-1, keepdim=True)
    if not blind.any():
        return drop
    checks.avoid(
        strict.blind_rows,
        f"{int(blind.sum())} rows of the mask are wholly dropped; inner_precise=2 corrects them",
    )
    return drop & ~blind
