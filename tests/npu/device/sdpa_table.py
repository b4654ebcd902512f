"""Which calls of torch's scaled_dot_product_attention torch_npu sends to its fused kernel.

`FAKE_NPU_SOC=Ascend310P3 python -m tests.npu.device.sdpa_table` prints it as one line of JSON:
what is asked -> "math", or the sparse mode and the mask's shape of the fused call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.npu.simulator.simulation import Simulation
from tests.npu.simulator.tier1 import start

HALF = torch.float16


def asked() -> dict[str, dict[str, Any]]:
    """What is asked -> the arguments of `question`."""
    return {
        "fp16": {},
        "bf16": {"dtype": torch.bfloat16},
        "fp32": {"dtype": torch.float32},
        "fp32 D=33": {"dtype": torch.float32, "dim": 33},
        "fp16 D=33": {"dim": 33},
        "fp16 D=576": {"dim": 576},
        "bool mask [B,1,S,S]": {"mask": (2, 1, 16, 16)},
        "bool mask [B,1,1,S]": {"mask": (2, 1, 1, 16)},
        "bool mask [B,N,1,S]": {"mask": (2, 4, 1, 16)},
        "bool mask [S,S]": {"mask": (16, 16)},
        "float mask": {"mask": (2, 1, 16, 16), "additive": True},
        "causal": {"is_causal": True},
        "causal, more keys": {"is_causal": True, "rows": 8},
        "grouped heads": {"kv_heads": 2, "enable_gqa": True},
        "3-D": {"flat": True},
        "one query": {"rows": 1},
    }


def question(
    dtype: torch.dtype = HALF,
    dim: int = 64,
    kv_heads: int = 4,
    rows: int = 16,
    mask: tuple[int, ...] | None = None,
    additive: bool = False,
    flat: bool = False,
    **options: Any,
) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k, v and the other arguments of one call, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, rows, dim), (2, kv_heads, 16, dim), (2, kv_heads, 16, dim)
    qkv = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    if flat:
        qkv = [x[0] for x in qkv]
    if mask is not None:
        keep = torch.ones(mask, dtype=torch.bool)
        keep[..., -3:] = False
        bias = torch.zeros(mask, dtype=dtype).masked_fill(~keep, -torch.inf)
        options["attn_mask"] = bias if additive else keep
    return qkv, options


def changed(options: dict[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The options with another mask."""
    return {n: change(x) if isinstance(x, Tensor) else x for n, x in options.items()}


def answer(npu: Simulation, arguments: dict[str, Any]) -> str:
    """How torch_npu computed it; fails if it computed it wrongly."""
    qkv, options = question(**arguments)
    npu.log.clear()
    there = changed(options, lambda mask: mask.to("npu"))
    q, k, v = (x.to("npu") for x in qkv)
    got = F.scaled_dot_product_attention(q, k, v, **there).float().cpu()
    wide = changed(options, lambda mask: mask if mask.dtype == torch.bool else mask.float())
    q, k, v = (x.float() for x in qkv)
    want = F.scaled_dot_product_attention(q, k, v, **wide)
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)
    if not npu.log.calls:
        return "math"
    (call,) = npu.log.calls
    assert call.op == "npu_fusion_attention_v3"
    return f"mode {call['sparse_mode']} mask {call['atten_mask'] and call['atten_mask'].shape}"


def table(npu: Simulation) -> dict[str, str]:
    return {name: answer(npu, arguments) for name, arguments in asked().items()}


if __name__ == "__main__":
    print(json.dumps(table(start())))
