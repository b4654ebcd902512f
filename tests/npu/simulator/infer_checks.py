"""The documented constraints of fused_infer_attention_score."""

from __future__ import annotations

import torch

from .ask import Ask
from .checks import Checks
from .layouts import check_rank
from .masks import SIDE, check_mask
from .paged import check_table
from .simulation import Simulation

HALVES = (torch.float16, torch.bfloat16)
INTEGERS = (torch.int8, torch.uint8)


def check_common(ask: Ask, checks: Checks, simulation: Simulation) -> None:
    """Chip, dtypes, layout, heads and head size."""
    checks.need(simulation.chip.family != "310P", "the operator does not exist on this chip")
    q, k, v = ask.query, ask.key, ask.value
    checks.need(q.dtype in HALVES, f"query is {q.dtype}, expected one of {HALVES}")
    checks.known(q.dtype == k.dtype == v.dtype, "key and value of another dtype than query's")
    for name, tensor in (("query", q), ("key", k), ("value", v)):
        checks.need(tensor.is_contiguous(), f"{name} is not contiguous")
    check_rank(checks, ask.layout, ("BSH", "BSND", "BNSD", "TND"), query=q)
    if ask.table is None:
        check_rank(checks, ask.layout, (ask.layout,), key=k, value=v)
    checks.need(1 <= ask.heads <= 256, f"num_heads {ask.heads} is not in 1..256")
    ratio = f"{ask.heads} heads over {ask.kv_heads} key heads"
    good = ask.heads % ask.kv_heads == 0 and ask.heads // ask.kv_heads <= 64
    checks.need(good, f"{ratio}; the ratio must be whole and at most 64")
    place = {"BNSD": 1, "BSND": 2, "TND": 1}.get(ask.layout)
    if place is None:
        checks.need(q.shape[-1] % ask.heads == 0, "H is no multiple of num_heads")
    else:
        checks.need(q.shape[place] == ask.heads, f"num_heads {ask.heads}, query {q.shape[place]}")
    dim = ask.head_dim
    checks.need(dim % 16 == 0 and dim <= 512, f"head size {dim} must be 16-aligned, at most 512")
    checks.need(ask.inner_precise in range(4), f"inner_precise {ask.inner_precise}")
    _check_cache(ask, checks, place)


def _check_cache(ask: Ask, checks: Checks, place: int | None) -> None:
    """Keys have the heads and head size that query asks for."""
    k, v = ask.key, ask.value
    if ask.table is None:
        checks.need(ask.block == 0, "block_size without block_table")
        alike = k.shape[:-1] == v.shape[:-1] if ask.layout == "TND" else k.shape == v.shape
        checks.need(alike, f"key is {tuple(k.shape)}, value {tuple(v.shape)}")
        heads = k.shape[-1] // ask.head_dim if place is None else k.shape[place]
        checks.need(heads == ask.kv_heads, f"num_key_value_heads {ask.kv_heads}, key {heads}")
        return
    checks.need(k.shape == v.shape and k.dim() in (3, 4), "caches must be alike, 3-D or 4-D")
    flat = k.dim() == 3
    checks.need(
        flat or ask.layout in ("BNSD", "TND"),
        f"{ask.layout} takes caches [blocks, block, N * D] only, got {tuple(k.shape)}",
    )
    wide = ask.kv_heads * ask.head_dim
    good = k.shape[2] == wide if flat else (k.shape[1], k.shape[3]) == (ask.kv_heads, ask.head_dim)
    checks.need(good, f"the cache {tuple(k.shape)} does not hold {ask.kv_heads} x {ask.head_dim}")
    checks.need(not flat or wide <= 65535, f"N * D of the cache is {wide}, at most 65535")
    checks.need(ask.kv_lengths is not None, "paged attention needs actual_seq_lengths_kv")


def check_dense(ask: Ask, checks: Checks, simulation: Simulation) -> None:
    """Of BSH, BSND and BNSD: lengths, mask, block table."""
    batch = ask.query.shape[0]
    rows = ask.query.shape[2 if ask.layout == "BNSD" else 1]
    for name, lengths in (("query", ask.q_lengths), ("kv", ask.kv_lengths)):
        good = lengths is None or len(lengths) == 1 or len(lengths) >= batch
        checks.need(good, f"{name} lengths are neither one nor one for each of {batch} sequences")
    if rows == 1:
        checks.need(ask.inner_precise in (0, 1), "inner_precise must be 0 or 1 for one query token")
    if ask.table is not None:
        lengths = ask.kv_lengths or []
        lengths = lengths * batch if len(lengths) == 1 else lengths
        _check_block(ask, checks, 1 if rows == 1 else 2)
        check_table(checks, ask.table, lengths, ask.key, ask.block, batch)
        keys = ask.table.shape[1] * ask.block
        checks.avoid(
            simulation.strict.reported_faults and rows == 1 and ask.sparse.mask is not None,
            "a mask in paged decode is reported to be ignored past position 512",
        )
    else:
        checks.need(ask.key.shape[0] == batch, f"batch is {batch}, key's {ask.key.shape[0]}")
        keys = ask.key.shape[2 if ask.layout == "BNSD" else 1]
        longest = max(ask.kv_lengths or [0])
        checks.need(longest <= keys, f"actual_seq_lengths_kv {longest} exceeds {keys} keys")
    if ask.pse is not None:
        shapes = {(b, ask.heads, rows, keys) for b in (1, batch)}
        good = tuple(ask.pse.shape) in shapes and ask.pse.dtype == ask.query.dtype
        checks.need(good, f"pse_shift must be one of {shapes} in query's dtype")
    if rows == 1:  # the mode counts for nothing, a mask is taken as it is
        shapes = {(batch, keys), (batch, 1, keys), (batch, 1, 1, keys), (1, 1, 1, keys)}
        mask = ask.sparse.mask
        checks.need(mask is None or tuple(mask.shape) in shapes | {(SIDE, SIDE)}, "mask shape")
        return
    shapes = {(rows, keys), (1, rows, keys), (1, 1, rows, keys), (batch, 1, rows, keys)}
    checks.need(ask.sparse.mode in range(5), f"sparse_mode {ask.sparse.mode} is not in 0..4")
    check_mask(checks, ask.sparse, shapes, INTEGERS)


def check_packed(ask: Ask, checks: Checks, simulation: Simulation) -> None:
    """Of TND: cumulative lengths, head sizes, the modes that exist, block table."""
    q_ends, kv = ask.q_lengths, ask.kv_lengths
    if q_ends is None or kv is None:
        checks.need(False, "TND needs actual_seq_lengths and actual_seq_lengths_kv")
        return
    checks.need(1 <= len(q_ends) <= 4096, f"{len(q_ends)} sequences are not in 1..4096")
    checks.need(len(q_ends) == len(kv), "actual_seq_lengths and actual_seq_lengths_kv differ")
    total = ask.query.shape[0]
    good = q_ends == sorted(q_ends) and q_ends[-1] == total
    checks.need(good, f"actual_seq_lengths must be cumulative and end at {total}, got {q_ends}")
    if simulation.chip.family != "950":
        alone = ask.heads == ask.kv_heads
        good = ask.head_dim in (128, 192) or (ask.head_dim == 64 and alone)
        checks.need(good, f"TND head size {ask.head_dim}: 128, 192, or 64 without shared key heads")
        precise = (0, 1) if ask.query.dtype == torch.float16 else (0,)
        checks.need(ask.inner_precise in precise, f"TND inner_precise must be in {precise}")
    checks.need(ask.pse is None, "TND takes no pse_shift")
    checks.need(ask.sparse.mode in (0, 3, 4), f"TND sparse_mode {ask.sparse.mode} is not 0, 3, 4")
    checks.need(ask.sparse.mode != 0 or ask.sparse.mask is None, "TND sparse_mode 0 takes no mask")
    checks.avoid(
        simulation.strict.reported_faults and ask.sparse.mode == 0,
        "packed sequences without a mask are reported to average all values; use "
        "npu_fusion_attention",
    )
    check_mask(checks, ask.sparse, set(), INTEGERS)
    if ask.table is None:
        end = ask.key.shape[0]
        good = kv == sorted(kv) and kv[-1] == end
        checks.need(good, f"actual_seq_lengths_kv must be cumulative and end at {end}, got {kv}")
    else:
        _check_block(ask, checks, 0)
        check_table(checks, ask.table, kv, ask.key, ask.block, len(q_ends))


def _check_block(ask: Ask, checks: Checks, tokens: int) -> None:
    """block_size, for one query token (1), several (2) or TND (0)."""
    block, rule = ask.block, {0: (16, 16, 1024), 1: (16, 16, 512), 2: (128, 128, 512)}[tokens]
    step, low, high = rule
    good = block % step == 0 and low <= block <= high
    checks.need(good, f"block_size {block} must be a multiple of {step} in {low}..{high}")
