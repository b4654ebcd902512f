"""npu_fusion_attention, v2 and v3: dense and packed attention."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .arguments import Arguments
from .attend import Attended, attend
from .checks import Checks
from .layouts import DENSE, check_rank, from_bnsd, heads_in, to_bnsd
from .masks import Sparse, check_mask, dropped, handle_blind
from .simulation import Simulation

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def fusion_attention(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Any, ...]:
    """v1: the reach is spelt pre_tockens and next_tockens; where a bias goes is unclear."""
    reach = call.pre_tockens, call.next_tockens
    call.ignore("dropout_mask", "seed", "offset")
    if call.pse is not None:
        checks.avoid(
            simulation.strict.pse_formula and call.scale != 1.0,
            "the documents disagree whether pse is added before or after the scale; use "
            "npu_fusion_attention_v2 with pse_type=0",
        )
    return (*_compute(call, checks, simulation, reach), torch.zeros(0), 0, 0, 0)


def fusion_attention_v2(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Any, ...]:
    """v2: pse_type 0 adds the bias after the scale, 1 (the default) before it."""
    call.ignore("dropout_mask", "seed", "offset")
    checks.known(call.pse_type in (0, 1), f"pse_type {call.pse_type}")
    factor = call.scale if call.pse_type == 1 else 1.0
    reach = call.pre_tokens, call.next_tokens
    return (*_compute(call, checks, simulation, reach, factor), torch.zeros(0), 0, 0, 0)


def fusion_attention_v3(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Any, ...]:
    """v3: lengths are tensors; this is what torch's own SDPA calls."""
    reach = call.pre_tockens, call.next_tockens
    if call.pse is not None:
        checks.avoid(
            simulation.strict.pse_formula and call.scale != 1.0,
            "the documents disagree whether pse is added before or after the scale",
        )
    nothing = torch.zeros(1, dtype=torch.int64)
    return (*_compute(call, checks, simulation, reach), torch.zeros(0), nothing, nothing.clone())


def _compute(
    call: Arguments,
    checks: Checks,
    simulation: Simulation,
    reach: tuple[int, int],
    bias_factor: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output and both softmax statistics, each repeated 8 times as documented."""
    call.ignore("gen_mask_parallel", "sync", "softmax_layout")  # of dropout and of statistics
    checks.need(simulation.chip.family != "310P", "the operator does not exist on this chip")
    checks.need(call.padding_mask is None, "padding_mask is not supported")
    checks.known(call.keep_prob == 1.0, f"dropout, keep_prob {call.keep_prob}")
    _check_tensors(call, checks, simulation)
    sparse = Sparse(call.atten_mask, call.sparse_mode, *reach)
    if call.input_layout == "TND":
        return _packed(call, checks, simulation, sparse)
    return _dense(call, checks, simulation, sparse, bias_factor)


def _check_tensors(call: Arguments, checks: Checks, simulation: Simulation) -> None:
    q, k, v, layout = call.query, call.key, call.value, call.input_layout
    checks.need(q.dtype in FLOATS, f"query is {q.dtype}, expected one of {FLOATS}")
    checks.need(q.dtype == k.dtype == v.dtype, "query, key and value differ in dtype")
    check_rank(checks, layout, (*DENSE, "TND"), query=q, key=k, value=v)
    checks.need(1 <= call.head_num <= 256, f"head_num {call.head_num} is not in 1..256")
    if layout in ("BSH", "SBH"):
        checks.need(q.shape[-1] % call.head_num == 0, "H is no multiple of head_num")
    dim = q.shape[-1] // call.head_num if layout in ("BSH", "SBH") else q.shape[-1]
    heads, kv_heads = heads_in(q, layout, dim), heads_in(k, layout, dim)
    checks.need(heads == call.head_num, f"head_num {call.head_num}, but query has {heads} heads")
    checks.need(1 <= dim <= 768, f"head size {dim} is not in 1..768")
    if layout not in ("BSH", "SBH"):
        checks.need(k.shape[-1] == dim, f"query has head size {dim}, key {k.shape[-1]}")
    checks.need(kv_heads > 0 and heads % kv_heads == 0, f"{heads} heads, {kv_heads} key heads")
    alike = k.shape == v.shape
    if simulation.chip.family == "950":
        alike = k.shape[:-1] == v.shape[:-1] and v.shape[-1] <= k.shape[-1]
    checks.need(alike, f"key is {tuple(k.shape)}, value {tuple(v.shape)}")
    if call.sink is not None:
        good = call.sink.shape == (call.head_num,) and call.sink.dtype == torch.float32
        checks.need(good, "sink must be float32 [head_num]")


def _dense(
    call: Arguments,
    checks: Checks,
    simulation: Simulation,
    sparse: Sparse,
    bias_factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    layout, heads = call.input_layout, call.head_num
    checks.need(sparse.mode in range(7), f"sparse_mode {sparse.mode} is not in 0..6 for {layout}")
    checks.known(sparse.mode < 5, f"sparse_mode {sparse.mode} (prefix)")
    given = [call.actual_seq_qlen, call.actual_seq_kvlen]
    checks.need(not any(g is not None for g in given), f"actual_seq_* are for TND, not {layout}")
    q = to_bnsd(call.query, layout, heads)
    kv_heads = heads_in(call.key, layout, q.shape[3])
    k, v = (to_bnsd(x, layout, kv_heads) for x in (call.key, call.value))
    (batch, _, rows, _), keys = q.shape, k.shape[2]
    checks.need(batch == k.shape[0], f"batch is {batch} for query, {k.shape[0]} for key")
    full = {(rows, keys), (1, 1, rows, keys), (batch, 1, rows, keys), (batch, heads, rows, keys)}
    check_mask(checks, sparse, full, (torch.uint8,))
    bias = _bias(call, checks, (batch, heads, rows, keys))
    drop = dropped(sparse, rows, keys)
    corrected = call.inner_precise == 2
    drop = handle_blind(checks, simulation.strict, drop, sparse, corrected)
    done = attend(
        q, k, v, call.scale, drop, None if bias is None else bias.float() * bias_factor, call.sink
    )
    return from_bnsd(done.out, layout), _eight(done.top), _eight(done.total)


def _bias(call: Arguments, checks: Checks, full: tuple[int, ...]) -> Tensor | None:
    """pse [B, N, Sq, Skv], [B, N, 1, Skv] or [1, N, Sq, Skv] in query's dtype."""
    pse, (batch, heads, rows, keys) = call.pse, full
    if pse is None:
        return None
    checks.need(pse.dtype == call.query.dtype, f"pse is {pse.dtype}, query {call.query.dtype}")
    shapes = [full, (batch, heads, 1, keys), (1, heads, rows, keys)]
    shape = tuple(pse.shape)
    checks.need(shape in shapes, f"get unsupported pse shape {shape}, needs one of {shapes}")
    return pse


def _packed(
    call: Arguments, checks: Checks, simulation: Simulation, sparse: Sparse
) -> tuple[Tensor, Tensor, Tensor]:
    checks.need(call.pse is None, "pse of packed sequences must be compressed alibi")
    q_ends = _ends(checks, "actual_seq_qlen", call.actual_seq_qlen, call.query.shape[0])
    k_ends = _ends(checks, "actual_seq_kvlen", call.actual_seq_kvlen, call.key.shape[0])
    checks.need(len(q_ends) == len(k_ends), "actual_seq_qlen and actual_seq_kvlen differ in length")
    checks.need(sparse.mode in (0, 1, 2, 3, 4, 6, 7, 8), f"sparse_mode {sparse.mode} with TND")
    checks.known(sparse.mode < 5, f"sparse_mode {sparse.mode}")
    spans = list(zip(pairwise((0, *q_ends)), pairwise((0, *k_ends)), strict=True))
    longest = [max(b - a for a, b in pairwise((0, *ends))) for ends in (q_ends, k_ends)]
    check_mask(checks, sparse, {(longest[0], longest[1])}, (torch.uint8,))
    done = [
        _sequence(call, checks, simulation, sparse, queries, keys)
        for queries, keys in spans
        if queries[1] > queries[0]
    ]
    outs, tops, totals = zip(*((d.out, d.top, d.total) for d in done), strict=True)
    rows = (torch.cat(parts, 2)[0].transpose(0, 1) for parts in (outs, tops, totals))
    out, top, total = rows
    return out.contiguous(), _eight(top), _eight(total)


def _sequence(
    call: Arguments,
    checks: Checks,
    simulation: Simulation,
    sparse: Sparse,
    queries: tuple[int, int],
    keys: tuple[int, int],
) -> Attended:
    (a, b), (c, d) = queries, keys
    own = sparse
    if sparse.mode in (0, 1) and sparse.mask is not None:
        cut = sparse.mask[: b - a, : d - c]
        own = Sparse(cut, sparse.mode, sparse.before, sparse.after)
    drop = dropped(own, b - a, d - c)
    drop = handle_blind(checks, simulation.strict, drop, own, corrected=False)
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (call.query, call.key, call.value))
    return attend(q[:, :, a:b], k[:, :, c:d], v[:, :, c:d], call.scale, drop, None, call.sink)


def _ends(checks: Checks, name: str, given: Any, total: int) -> list[int]:
    """Cumulative lengths as host integers; zeros at the end are sequences that take no part."""
    checks.need(given is not None, f"TND needs {name}")
    ends = [int(end) for end in given]
    while len(ends) > 1 and ends[-1] == 0:
        ends.pop()
    checks.need(ends == sorted(ends) and ends[0] >= 0, f"{name} must be cumulative, got {ends}")
    checks.need(ends[-1] == total, f"{name} ends at {ends[-1]}, but there are {total} tokens")
    return ends


def _eight(statistic: Tensor) -> Tensor:
    return statistic.expand(*statistic.shape[:-1], 8).contiguous()
