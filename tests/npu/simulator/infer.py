"""npu_fused_infer_attention_score (FIA) and its v2: dense, packed and paged attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .arguments import Arguments
from .ask import Ask
from .checks import Checks
from .infer_checks import check_common, check_dense, check_packed
from .infer_parts import Part, dense_parts, packed_parts
from .layouts import from_bnsd
from .masks import Sparse
from .simulation import Simulation


def fused_infer(call: Arguments, checks: Checks, simulation: Simulation) -> tuple[Tensor, Tensor]:
    """v1."""
    ask = _ask(
        call,
        (call.num_heads, call.num_key_value_heads, call.scale),
        (call.actual_seq_lengths, call.actual_seq_lengths_kv),
        call.softmax_lse_flag,
    )
    return _compute(ask, checks, simulation)


def fused_infer_v2(
    call: Arguments, checks: Checks, simulation: Simulation
) -> tuple[Tensor, Tensor]:
    """v2: other names, and learnable_sink."""
    ask = _ask(
        call,
        (call.num_query_heads, call.num_key_value_heads, call.softmax_scale),
        (call.actual_seq_qlen, call.actual_seq_kvlen),
        call.return_softmax_lse,
        call.learnable_sink,
    )
    if ask.sink is not None:
        good = ask.layout == "TND" and ask.sink.shape == (ask.heads,)
        checks.need(good, "learnable_sink needs TND and one value per head")
    return _compute(ask, checks, simulation)


def _ask(
    call: Arguments,
    numbers: tuple[int, int, float],
    lengths: tuple[Any, Any],
    lse: bool,
    sink: Tensor | None = None,
) -> Ask:
    heads, kv_heads, scale = numbers
    q_lengths, kv_lengths = (None if n is None else [int(i) for i in n] for n in lengths)
    return Ask(
        query=call.query,
        key=call.key,
        value=call.value,
        layout=call.input_layout,
        heads=heads,
        kv_heads=kv_heads or heads,
        scale=scale,
        sparse=Sparse(call.atten_mask, call.sparse_mode, call.pre_tokens, call.next_tokens),
        pse=call.pse_shift,
        sink=sink,
        q_lengths=q_lengths,
        kv_lengths=kv_lengths,
        table=call.block_table,
        block=call.block_size,
        inner_precise=call.inner_precise,
        lse=lse,
    )


def _compute(ask: Ask, checks: Checks, simulation: Simulation) -> tuple[Tensor, Tensor]:
    check_common(ask, checks, simulation)
    if ask.layout == "TND":
        check_packed(ask, checks, simulation)
        parts = packed_parts(ask, checks, simulation)
        out, lse = _gathered(ask, parts, 1)
        out, lse = (x[0].transpose(0, 1).contiguous() for x in (out, lse))
    else:
        check_dense(ask, checks, simulation)
        parts = dense_parts(ask, checks, simulation)
        out, lse = _gathered(ask, parts, ask.query.shape[0])
        out = from_bnsd(out, ask.layout)
    return out, lse if ask.lse else torch.zeros(1)


def _gathered(ask: Ask, parts: list[Part], batch: int) -> tuple[Tensor, Tensor]:
    """All parts in their places: [B, N, S, D] and [B, N, S, 1]. Rows of no part are 0."""
    packed = ask.layout == "TND"
    sequence = {"TND": 0, "BNSD": 2}.get(ask.layout, 1)
    rows = ask.query.shape[sequence]
    dim = ask.value.shape[-1] if packed and ask.table is None else ask.head_dim
    out = ask.query.new_zeros(batch, ask.heads, rows, dim)
    lse = torch.zeros(batch, ask.heads, rows, 1)
    for part in parts:
        place = (slice(part.row, part.row + 1), slice(None), slice(part.start, part.stop))
        out[place] = part.done.out
        lse[place] = part.done.lse
    return out, lse
