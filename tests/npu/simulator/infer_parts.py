"""fused_infer_attention_score sequence by sequence: which queries see which keys."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from .ask import Ask
from .attend import Attended, attend
from .checks import Checks
from .layouts import to_bnsd
from .masks import Sparse, dropped, handle_blind
from .paged import gather
from .simulation import Simulation


class Part(NamedTuple):
    """One sequence's results: its batch row, and its query tokens start..stop."""

    row: int
    start: int
    stop: int
    done: Attended


def dense_parts(ask: Ask, checks: Checks, simulation: Simulation) -> list[Part]:
    """One part per batch row; query tokens beyond actual_seq_lengths are left out."""
    q = to_bnsd(ask.query, ask.layout, ask.heads)
    batch, _, rows, _ = q.shape
    parts = []
    for row in range(batch):
        stop = rows if rows == 1 else _length(ask.q_lengths, row, rows)
        k, v = _keys(ask, row)
        keys = k.shape[2]
        sparse = _cut(ask.sparse, row, batch, rows, stop, keys)
        drop = _dropped(ask, checks, simulation, sparse, rows, stop, keys)
        bias = None
        if ask.pse is not None:
            bias = ask.pse[row if ask.pse.shape[0] > 1 else 0][None, :, :stop, :keys]
        part = q[row : row + 1, :, :stop]
        parts.append(Part(row, 0, stop, attend(part, k, v, ask.scale, drop, bias, ask.sink)))
    return parts


def packed_parts(ask: Ask, checks: Checks, simulation: Simulation) -> list[Part]:
    """One part per sequence of TND."""
    q_ends, kv = ask.q_lengths or [], ask.kv_lengths or []
    bounds = list(pairwise((0, *kv)))
    parts = []
    for row, (start, stop) in enumerate(pairwise((0, *q_ends))):
        if ask.table is None:
            c, d = bounds[row]
            k, v = (x[c:d].transpose(0, 1).unsqueeze(0) for x in (ask.key, ask.value))
        else:
            mine = ask.table[row], kv[row], ask.kv_heads
            k, v = gather(ask.key, *mine), gather(ask.value, *mine)
        drop = dropped(ask.sparse, stop - start, k.shape[2])
        drop = handle_blind(checks, simulation.strict, drop, ask.sparse, corrected=False)
        q = ask.query[start:stop].transpose(0, 1).unsqueeze(0)
        parts.append(Part(0, start, stop, attend(q, k, v, ask.scale, drop, None, ask.sink)))
    return parts


def _keys(ask: Ask, row: int) -> tuple[Tensor, Tensor]:
    """[1, Nkv, length, D] of one batch row."""
    if ask.table is not None:
        length = _length(ask.kv_lengths, row, 0)
        mine = ask.table[row], length, ask.kv_heads
        return gather(ask.key, *mine), gather(ask.value, *mine)
    k, v = (to_bnsd(x[row : row + 1], ask.layout, ask.kv_heads) for x in (ask.key, ask.value))
    length = _length(ask.kv_lengths, row, k.shape[2])
    return k[:, :, :length], v[:, :, :length]


def _length(lengths: list[int] | None, row: int, whole: int) -> int:
    if lengths is None:
        return whole
    return lengths[0] if len(lengths) == 1 else lengths[row]


def _cut(sparse: Sparse, row: int, batch: int, rows: int, stop: int, keys: int) -> Sparse:
    """The mask of one batch row, cut to its tokens; a compressed mask as it is."""
    mask = sparse.mask
    if mask is None or (sparse.mode > 1 and rows > 1):
        return sparse
    if rows == 1 and mask.shape[-1] == mask.shape[-2]:
        return Sparse(None, 0)  # a compressed mask says nothing for one query token
    whole = mask.reshape(-1, rows, mask.shape[-1])
    own = whole[row if whole.shape[0] == batch and batch > 1 else 0]
    return Sparse(own[:stop, :keys], sparse.mode, sparse.before, sparse.after)


def _dropped(
    ask: Ask,
    checks: Checks,
    simulation: Simulation,
    sparse: Sparse,
    rows: int,
    stop: int,
    keys: int,
) -> Tensor | None:
    """For one query token the reach and the mode count for nothing."""
    if rows == 1:
        drop = None if sparse.mask is None else sparse.mask.bool()
    else:
        drop = dropped(sparse, stop, keys)
    corrected = ask.inner_precise in (2, 3)
    return handle_blind(checks, simulation.strict, drop, sparse, corrected)
