"""diffusers 0.42.1: its attention backend for NPUs, its fused layers, its switches."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import diffusers
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    attention_backend,
    dispatch_attention_fn,
)
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, AttnProcessorNPU
from diffusers.models.normalization import RMSNorm
from torch import Tensor

from .case import Case
from .inputs import ADDED, KEEP, attention, drawn, on_npu
from .ours import attached, by_mindsd, fused, kept_off

PROJECT = f"diffusers {diffusers.__version__}"
Q, K, V = (drawn(1, 6, 2, 16, seed=seed) for seed in range(3))
LONG = 70_000
LONG_Q, LONG_K = drawn(1, 1, 1, 16), drawn(1, LONG, 1, 16, seed=1)
LONG_V = LONG_K + 5 * (torch.arange(LONG) >= 66_000).view(1, LONG, 1, 1)
LONG_KEEP = (torch.arange(LONG) > 0).view(1, 1, 1, LONG)


def dispatched(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    with attention_backend("_native_npu"):
        return dispatch_attention_fn(q.to("npu"), k.to("npu"), v.to("npu"), **on_npu(options))


def processed(kind: Any, mask: Tensor, device: str, ours: bool = False) -> Tensor:
    """One attention layer in float32 with a processor of this kind."""
    torch.manual_seed(0)
    layer = Attention(query_dim=32, cross_attention_dim=32, heads=2, dim_head=16).eval().to(device)
    layer.set_processor(kind())
    x, context = drawn(1, 5, 32, dtype=torch.float32), drawn(1, 6, 32, dtype=torch.float32, seed=1)
    moved = [value.to(device) for value in (x, context, mask)]
    with attached(layer) if ours else nullcontext():
        return layer(moved[0], moved[1], attention_mask=moved[2])


def flux() -> Any:
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def after_disabling() -> str:
    model = flux()
    model.disable_npu_flash_attention()
    chosen = {str(p._attention_backend.value) for p in model.attn_processors.values()}
    return f"every processor is set to {', '.join(chosen)}"


def after_removing() -> str:
    model = flux()
    before = [(p, p._attention_backend) for p in model.attn_processors.values()]
    attached(model).remove()
    after = [(p, p._attention_backend) for p in model.attn_processors.values()]
    touched = any("forward" in vars(own) for own in model.modules())
    return f"every processor is {'another' if touched or before != after else 'as it was'}"


def others_are(name: AttentionBackendName) -> str:
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)
    return f"the default of all other models is {name.value}"


def other_models() -> str:
    flux().set_attention_backend("_native_npu")
    chosen = AttentionBackendName(_AttentionBackendRegistry.get_active_backend()[0])
    return f"{others_are(chosen)}, too"


def other_models_of_ours() -> str:
    with attached(flux()):
        return others_are(AttentionBackendName(_AttentionBackendRegistry.get_active_backend()[0]))


def rms_norm() -> RMSNorm:
    return RMSNorm(8, 1e-6)


def small() -> Tensor:
    return drawn(2, 8, dtype=torch.float32)


def geglu(device: str) -> Tensor:
    torch.manual_seed(0)
    return GEGLU(64, 64).to(device)(3 * drawn(4, 64, dtype=torch.float32).to(device))


def fused_geglu() -> Tensor:
    torch.manual_seed(0)
    return fused(GEGLU(64, 64), 3 * drawn(4, 64, dtype=torch.float32))


def geglu_kept_off() -> Tensor:
    torch.manual_seed(0)
    return kept_off(GEGLU(64, 64), 3 * drawn(4, 64, dtype=torch.float32))


def exact_geglu() -> Tensor:
    torch.manual_seed(0)
    value, gate = GEGLU(64, 64).proj(3 * drawn(4, 64, dtype=torch.float32)).chunk(2, -1)
    return value * torch.nn.functional.gelu(gate)


KEPT = KEEP.view(1, 1, 6)
PENALTY = (~KEPT).float() * -10000.0
CASES = [
    Case(
        PROJECT,
        "_native_npu with an additive mask",
        lambda: dispatched(Q, K, V, attn_mask=ADDED),
        lambda: attention(Q, K, V, attn_mask=ADDED),
        "huggingface/diffusers#14397",
        lambda: by_mindsd(Q, K, V, attn_mask=ADDED),
    ),
    Case(
        PROJECT,
        "_native_npu with is_causal=True",
        lambda: dispatched(Q, K, V, is_causal=True),
        lambda: attention(Q, K, V, is_causal=True),
        ours=lambda: by_mindsd(Q, K, V, is_causal=True),
    ),
    Case(
        PROJECT,
        f"_native_npu with a mask over {LONG} keys",
        lambda: dispatched(LONG_Q, LONG_K, LONG_V, attn_mask=LONG_KEEP),
        lambda: attention(LONG_Q, LONG_K, LONG_V, attn_mask=LONG_KEEP),
        ours=lambda: by_mindsd(LONG_Q, LONG_K, LONG_V, attn_mask=LONG_KEEP),
    ),
    Case(
        PROJECT,
        "AttnProcessorNPU in float32, bool mask",
        lambda: processed(AttnProcessorNPU, KEPT, "npu"),
        lambda: processed(AttnProcessor2_0, KEPT, "cpu"),
        ours=lambda: processed(AttnProcessor2_0, KEPT, "npu", ours=True),
    ),
    Case(
        PROJECT,
        "AttnProcessorNPU in float32, additive mask",
        lambda: processed(AttnProcessorNPU, PENALTY, "npu"),
        lambda: processed(AttnProcessor2_0, PENALTY, "cpu"),
        ours=lambda: processed(AttnProcessor2_0, PENALTY, "npu", ours=True),
    ),
    Case(PROJECT, "GEGLU on the NPU", lambda: geglu("npu"), exact_geglu, ours=fused_geglu),
    Case(PROJECT, "GEGLU of CPU tensors", lambda: geglu("cpu"), exact_geglu, ours=geglu_kept_off),
    Case(
        PROJECT,
        "RMSNorm of CPU tensors",
        lambda: rms_norm()(small()),
        lambda: torch.nn.functional.rms_norm(small(), (8,), None, 1e-6),
        "cf. vllm-omni#4992",
        lambda: kept_off(rms_norm(), small()),
    ),
    Case(PROJECT, "disable_npu_flash_attention()", after_disabling, ours=after_removing),
    Case(
        PROJECT,
        "set_attention_backend() of one model",
        other_models,
        known="by design",
        ours=other_models_of_ours,
    ),
]
