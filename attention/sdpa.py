"""torch's scaled_dot_product_attention: fused on CPU and CUDA, and by torch_npu on Ascend."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .contract import Call
from .mask import blind_rows, full_mask


class Sdpa:
    """Everything, exactly: what torch has no argument for becomes a mask.

    A call that torch can take as it stands reaches it as it stands, so the result is bit-identical
    to calling torch directly. Packed calls run one sequence after the other.
    """

    name = "sdpa"

    def refuses(self, call: Call) -> str | None:
        return None

    def run(self, call: Call) -> Tensor:
        if call.varlen is None:
            return _dense(call)
        return torch.cat([_dense(part) for part in call.sequences()], dim=2)


def _dense(call: Call) -> Tensor:
    if call.q.shape[2] == 0 or call.k.shape[2] == 0:
        return call.q.new_zeros(*call.q.shape[:3], call.v.shape[3])
    # torch aligns is_causal top-left, we bottom-right: the same thing on a square only.
    square = call.q.shape[2] == call.k.shape[2]
    native_causal = call.causal and square and call.window is None and call.mask is None
    mask = None if native_causal else full_mask(call)
    out = F.scaled_dot_product_attention(
        call.q,
        call.k,
        call.v,
        attn_mask=_wide_enough(mask, call.q.dtype),
        is_causal=native_causal,
        scale=call.scale,
        enable_gqa=call.groups > 1,
    )
    # torch's kernels do not agree on a row that sees nothing: some give zeros, some NaN.
    return out if mask is None else out.masked_fill(blind_rows(mask), 0)


def _wide_enough(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A float32 bias beside float64 tensors is widened; torch refuses the mixture otherwise."""
    return (
        mask.double()
        if mask is not None and mask.dtype != torch.bool and dtype == torch.float64
        else mask
    )
