"""npu_block_sparse_attention: a mask of blocks, where 1 means COMPUTE."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .arguments import Arguments
from .attend import Attended, attend
from .checks import Checks
from .simulation import Simulation


def block_sparse_attention(
    call: Arguments, checks: Checks, simulation: Simulation
) -> tuple[Tensor, Tensor]:
    """Attention over the chosen blocks of keys; lengths are per sequence, in both layouts."""
    _check(call, checks, simulation)
    packed = call.q_input_layout == "TND"
    q_lengths, k_lengths = _lengths(call, checks, packed)
    sides = [
        -(-max(n) // b) for n, b in zip((q_lengths, k_lengths), call.block_shape, strict=False)
    ]
    heads = call.query.shape[1]
    shape = (len(q_lengths), heads, *sides)
    mask = call.block_sparse_mask
    good = mask.dtype == torch.int8 and tuple(mask.shape) == shape
    checks.need(good, f"block_sparse_mask is {mask.dtype} {tuple(mask.shape)}, needs int8 {shape}")
    if packed:
        return _packed(call, q_lengths, k_lengths)
    out = call.query.new_zeros(*call.query.shape[:3], call.value.shape[3])
    lse = torch.zeros(*call.query.shape[:3], 1)
    for row, (rows, keys) in enumerate(zip(q_lengths, k_lengths, strict=True)):
        own = slice(row, row + 1)
        done = _sequence(call, row, call.query[own], call.key[own], call.value[own], rows, keys)
        out[own, :, :rows], lse[own, :, :rows] = done.out, done.lse
    return out, lse


def _packed(call: Arguments, q_lengths: list[int], k_lengths: list[int]) -> tuple[Tensor, Tensor]:
    ends = [torch.tensor([0, *lengths]).cumsum(0).tolist() for lengths in (q_lengths, k_lengths)]
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (call.query, call.key, call.value))
    done = [
        _sequence(call, row, q[:, :, a:b], k[:, :, c:d], v[:, :, c:d], b - a, d - c)
        for row, ((a, b), (c, d)) in enumerate(zip(*map(pairwise, ends), strict=True))
    ]
    out = torch.cat([one.out for one in done], 2)[0].transpose(0, 1)
    lse = torch.cat([one.lse for one in done], 2)[0].transpose(0, 1)
    return out.contiguous(), lse.contiguous()


def _sequence(
    call: Arguments, row: int, q: Tensor, k: Tensor, v: Tensor, rows: int, keys: int
) -> Attended:
    """Rows without a chosen block give 0."""
    x, y = call.block_shape[:2]
    whole = call.block_sparse_mask[row : row + 1].repeat_interleave(x, 2).repeat_interleave(y, 3)
    drop = whole[:, :, :rows, :keys] == 0
    return attend(q[:, :, :rows], k[:, :, :keys], v[:, :, :keys], call.scale_value, drop)


def _check(call: Arguments, checks: Checks, simulation: Simulation) -> None:
    checks.need(simulation.chip.family in ("A2", "A3"), "the operator does not exist on this chip")
    call.ignore("softmax_lse_flag")
    q, k, v, layout = call.query, call.key, call.value, call.q_input_layout
    checks.need(layout in ("TND", "BNSD"), f"q_input_layout {layout!r} is not TND or BNSD")
    checks.need(call.kv_input_layout == layout, "both layouts must be the same")
    rank = 3 if layout == "TND" else 4
    checks.need(q.dim() == k.dim() == v.dim() == rank, f"{layout} needs {rank} axes")
    halves = (torch.float16, torch.bfloat16)
    checks.need(q.dtype in halves and q.dtype == k.dtype == v.dtype, f"dtypes must be in {halves}")
    precise = (0, 1) if q.dtype == torch.float16 else (0,)
    checks.need(call.inner_precise in precise, f"{q.dtype} needs inner_precise in {precise}")
    heads, kv_heads = q.shape[1], k.shape[1]
    good = call.num_key_value_heads == kv_heads and heads % kv_heads == 0
    checks.need(good, f"{heads} heads, {kv_heads} of key, asked {call.num_key_value_heads}")
    checks.need(q.shape[-1] in (64, 128), f"head size {q.shape[-1]} is not 64 or 128")
    shape = call.block_shape
    good = len(shape) >= 2 and shape[0] > 0 and shape[1] > 0 and shape[1] % 128 == 0
    checks.need(good, f"block_shape {shape}: two above 0, the second a multiple of 128")
    checks.avoid(call.scale_value == 0.0, "scale_value is 0, its default: all scores are 0")


def _lengths(call: Arguments, checks: Checks, packed: bool) -> tuple[list[int], list[int]]:
    found = []
    for name, x in (("actual_seq_lengths", call.query), ("actual_seq_lengths_kv", call.key)):
        given = getattr(call, name)
        checks.need(not packed or given is not None, f"TND needs {name}")
        lengths = [x.shape[2]] * x.shape[0] if given is None else [int(n) for n in given]
        room = x.shape[0] if packed else x.shape[2]
        good = sum(lengths) == room if packed else max(lengths) <= room
        checks.need(good, f"{name} {lengths} does not fit {room} tokens")
        found.append(lengths)
    checks.need(len(found[0]) == len(found[1]), "both lengths must count the same sequences")
    return found[0], found[1]
