"""Attention over pages on Ascend NPUs, by npu_fused_infer_attention_score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mindsd.device import NPU_CHIPS, npu_chip
from mindsd.kvcache.pages import NpuPages
from mindsd.kvcache.step import Segment

from .npu_limits import INFER_DTYPES, MOST_GROUPS, MOST_HEADS, no_packed_dims
from .npu_mask import BAND, CAUSAL, FAR, triangle
from .npu_paged_plan import DECODE, PACKED, Group, groups, put
from .paged_call import PagedCall, no_sight

BLOCK, MOST_BLOCK = 128, 512
MOST_KEYS = 262144  # tokens of a sequence that is read for one query
MOST_WIDTH = 65535  # numbers of a token


class NpuPaged:
    """Causal and windowed attention over `NpuPages`.

    Args:
        devices: kinds of devices whose tensors it takes.
    """

    name = "npu pages"

    def __init__(self, devices: Sequence[str] = ("npu",)) -> None:
        self.devices = tuple(devices)

    def refuses(self, call: PagedCall) -> str | None:
        """Why a call cannot be computed exactly; segments with pictures are no part of it."""
        device = call.query.device
        if device.type not in self.devices:
            return f"pages are on {device.type}, it computes on npu only"
        if (chip := npu_chip(device.index or 0)) not in NPU_CHIPS:
            return f"a {chip} has no operator for pages"
        if not isinstance(call.keys, NpuPages):
            return "the pages are not laid out for an NPU"
        return (
            no_sight(call)
            or _no_scores(call)
            or _no_numbers(call)
            or _no_sizes(call)
            or _no_sinks(call)
        )

    def run(self, call: PagedCall, segments: Sequence[Segment]) -> Tensor:
        """[T, H, D] in the query's dtype; rows of other segments hold anything."""
        packs = no_packed_dims(call.dim, call.dim, _grouped(call)) is None
        sunk, window = call.sinks is not None, call.sight.window
        plan: list[Group] = call.step.plan(
            ("npu", call.lane, window, packs, sunk, len(segments)),
            lambda: groups(call.step, call.lane, segments, window, packs, sunk),
        )
        if len(plan) == 1 and plan[0].in_order:
            return _attend(call, plan[0], call.query)
        out = torch.empty_like(call.query)
        for group in plan:
            put(out, group, _attend(call, group, call.query.index_select(0, group.rows)))
        return out


def _grouped(call: PagedCall) -> int:
    return call.query.shape[1] // call.keys.data.shape[0]


def _attend(call: PagedCall, group: Group, query: Tensor) -> Tensor:
    """[R, H, D] of a group's rows."""
    shape = query.shape
    if group.way != PACKED:
        query = query.reshape(len(group), -1, shape[1] * shape[2])
    arguments = _paged(call, group) | _masked(call, group)
    if call.sinks is None:
        out = _infer(call, group, query.contiguous(), arguments)
    else:
        out = _infer_sunk(call, group, query.contiguous(), arguments)
    return out.view(shape)


def _paged(call: PagedCall, group: Group) -> dict[str, Any]:
    return {
        "block_table": group.table,
        "block_size": call.step.pages.size,
        "num_key_value_heads": call.keys.data.shape[0],
        "input_layout": "TND" if group.way == PACKED else "BSH",
    }


def _masked(call: PagedCall, group: Group) -> dict[str, Any]:
    """Nothing for one token each: it sees all there is, and a mask is reported to be ignored past
    position 512 (vllm-ascend#15503)."""
    if group.way == DECODE:
        return {}
    window = call.sight.window
    return {
        "atten_mask": triangle(call.query.device),
        "sparse_mode": CAUSAL if window is None else BAND,
        "pre_tokens": FAR if window is None else window - 1,  # the token itself is not counted
        "next_tokens": FAR if window is None else 0,
    }


def _flat(call: PagedCall) -> list[Tensor]:
    """Keys and values as [blocks, size, heads * D]; no copies."""
    pages = (call.keys, call.values)
    return [own.rows.flatten(2) for own in pages if isinstance(own, NpuPages)]


def _infer(call: PagedCall, group: Group, query: Tensor, arguments: dict[str, Any]) -> Tensor:
    lengths = {"actual_seq_lengths": group.q_ends} if group.way == PACKED else {}
    return torch.ops.npu.npu_fused_infer_attention_score(
        query,
        *_flat(call),
        num_heads=call.query.shape[1],
        scale=call.scale,
        actual_seq_lengths_kv=group.keys,
        **lengths,
        **arguments,
    )[0]


def _infer_sunk(call: PagedCall, group: Group, query: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The second version knows sinks; it has other names for the same."""
    return torch.ops.npu.npu_fused_infer_attention_score_v2(
        query,
        *_flat(call),
        learnable_sink=call.sinks,
        num_query_heads=call.query.shape[1],
        softmax_scale=call.scale,
        actual_seq_qlen=group.q_ends,
        actual_seq_kvlen=group.keys,
        **arguments,
    )[0]


def _no_scores(call: PagedCall) -> str | None:
    if call.softcap is not None:
        return f"it has no softcap, asked {call.softcap}"
    longest = max(segment.total for segment in call.step.segments)
    if longest > MOST_KEYS:
        return f"one query reads at most {MOST_KEYS} tokens, got {longest}"
    return None


def _no_numbers(call: PagedCall) -> str | None:
    if call.query.dtype not in INFER_DTYPES:
        return f"it computes float16 and bfloat16, not {call.query.dtype}"
    if call.keys.scales is not None:
        return "int8 pages are widened before they are attended to"
    if not math.isfinite(call.scale):
        return f"scale must be finite, got {call.scale}"
    if call.keys.data.dtype != call.query.dtype or call.values.data.dtype != call.query.dtype:
        return f"queries are {call.query.dtype}, pages {call.keys.data.dtype}"
    return None


def _no_sizes(call: PagedCall) -> str | None:
    heads, kv_heads = call.query.shape[1], call.keys.data.shape[0]
    dim, values = call.dim, call.values.data.shape[3]
    if values != dim or dim % 16 or dim > 512:
        return f"head_dim must be one multiple of 16 up to 512, got {dim}, {values}"
    if heads > MOST_HEADS or heads > MOST_GROUPS * kv_heads:
        return f"at most {MOST_HEADS} heads, {MOST_GROUPS} to a key head; got {heads}, {kv_heads}"
    if heads * dim > MOST_WIDTH:
        return f"all heads of a token are at most {MOST_WIDTH} numbers, got {heads * dim}"
    size = call.step.pages.size
    if size % BLOCK or size > MOST_BLOCK:
        return f"blocks must be multiples of {BLOCK} tokens up to {MOST_BLOCK}, got {size}"
    return None


def _no_sinks(call: PagedCall) -> str | None:
    if call.sinks is None:
        return None
    reason = no_packed_dims(call.dim, call.dim, _grouped(call))
    if reason is not None:
        return f"sinks go packed only: {reason}"
    if call.dim > 128 or call.sinks.dtype != torch.bfloat16:
        return f"sinks are bfloat16 with head_dim up to 128, got {call.sinks.dtype}, {call.dim}"
    return None
