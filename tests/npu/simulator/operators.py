"""Every emulated operator by its full name."""

from __future__ import annotations

from . import block_sparse, fusion, infer, neighbours, paged, prompt, quantise
from .simulation import Operator

OPERATORS: dict[str, Operator] = {
    "npu::npu_fusion_attention": fusion.fusion_attention,
    "npu::npu_fusion_attention_v2": fusion.fusion_attention_v2,
    "npu::npu_fusion_attention_v3": fusion.fusion_attention_v3,
    "npu::npu_prompt_flash_attention": prompt.prompt_flash_attention,
    "npu::npu_fused_infer_attention_score": infer.fused_infer,
    "npu::npu_fused_infer_attention_score_v2": infer.fused_infer_v2,
    "npu::npu_block_sparse_attention": block_sparse.block_sparse_attention,
    "npu::npu_scatter_pa_kv_cache": paged.scatter_pa_kv_cache,
    "atb::_npu_reshape_and_cache": paged.reshape_and_cache,
    "npu::npu_rms_norm": neighbours.rms_norm,
    "npu::npu_add_rms_norm": neighbours.add_rms_norm,
    "npu::npu_rotary_mul": neighbours.rotary_mul,
    "npu::npu_swiglu": neighbours.swiglu,
    "npu::npu_geglu": neighbours.geglu,
    "npu::npu_fast_gelu": neighbours.fast_gelu,
    "npu::npu_dynamic_quant": quantise.dynamic_quant,
    "npu::npu_quant_matmul": quantise.quant_matmul,
}
