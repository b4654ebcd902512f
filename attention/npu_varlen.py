"""Packed sequences on Ascend NPUs: tokens end to end, [T, H, D], with cumulative lengths (TND)."""

from __future__ import annotations

import torch
from torch import Tensor

from .contract import Call
from .npu_limits import no_infer_packed, spans
from .npu_mask import reach


def run_packed(call: Call) -> Tensor:
    """[1, H, T, Dv] of a packed call.

    Causal ones go through fused inference, where head sizes allow it; the others through
    npu_fusion_attention, for without a mask fused inference is reported to average all values
    (vllm-ascend#13699).
    """
    assert call.varlen is not None
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (call.q, call.k, call.v))
    lengths = _ends(call.varlen.q, call.varlen.k)
    attend = _infer if no_infer_packed(call) is None else _fusion
    out = attend(call, q, k, v, *lengths)
    return out.transpose(0, 1)[None]


def _ends(q: tuple[int, ...], k: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Where sequences end; those without tokens are left out."""
    own = [i for i, (a, b) in enumerate(zip(spans(q), spans(k), strict=True)) if a or b]
    return [q[i + 1] for i in own], [k[i + 1] for i in own]


def _infer(
    call: Call, q: Tensor, k: Tensor, v: Tensor, q_ends: list[int], k_ends: list[int]
) -> Tensor:
    hidden = reach(call, blind=False)
    return torch.ops.npu.npu_fused_infer_attention_score(
        q,
        k,
        v,
        atten_mask=hidden.drop,
        actual_seq_lengths=q_ends,
        actual_seq_lengths_kv=k_ends,
        num_heads=q.shape[1],
        num_key_value_heads=k.shape[1],
        scale=call.scaling,
        input_layout="TND",
        sparse_mode=hidden.mode,
        pre_tokens=hidden.before,
        next_tokens=hidden.after,
    )[0]


def _fusion(
    call: Call, q: Tensor, k: Tensor, v: Tensor, q_ends: list[int], k_ends: list[int]
) -> Tensor:
    hidden = reach(call, blind=False)
    return torch.ops.npu.npu_fusion_attention(
        q,
        k,
        v,
        q.shape[1],
        "TND",
        atten_mask=hidden.drop,
        scale=call.scaling,
        pre_tockens=hidden.before,
        next_tockens=hidden.after,
        actual_seq_qlen=q_ends,
        actual_seq_kvlen=k_ends,
        sparse_mode=hidden.mode,
    )[0]
