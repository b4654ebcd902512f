"""mindiesd 3.1.0 (MindIE SD): its dense and packed attention. Its wheel must be on sys.path."""

from __future__ import annotations

import mindiesd  # type: ignore[import-not-found]
import torch
from torch import Tensor

from mindsd.attention.contract import Call, Varlen

from .case import Case
from .inputs import attention, drawn
from .ours import REGISTRY, by_mindsd

PROJECT = "mindiesd 3.1.0"
Q = drawn(2, 40, 4, 64, dtype=torch.float16)
KEEP = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(1)) > 0.3
ENDS = torch.tensor([0, 15, 40], dtype=torch.int32)


def packed() -> Tensor:
    """With the cumulative lengths as its documentation has them."""
    q = Q[0].to("npu")
    return mindiesd.attention_forward_varlen(q, q, q, ENDS, ENDS, causal=True)


def packed_right() -> Tensor:
    parts = (Q[:1, a:b] for a, b in ((0, 15), (15, 40)))
    return torch.cat([attention(p, p, p, is_causal=True) for p in parts], 1)[0]


def unfused() -> Tensor:
    q = Q.to("npu")
    return mindiesd.attention_forward(q, q, q, attn_mask=KEEP.to("npu"), fused=False)


def packed_by_mindsd() -> Tensor:
    q, ends = Q[:1].to("npu").transpose(1, 2), tuple(ENDS.tolist())
    call = Call(q, q, q, causal=True, varlen=Varlen(ends, ends))
    return REGISTRY.run(call).transpose(1, 2)[0]


CASES = [
    Case(
        PROJECT,
        "attention_forward_varlen with tensors as lengths",
        packed,
        packed_right,
        ours=packed_by_mindsd,
    ),
    Case(
        PROJECT,
        "attention_forward with fused=False and a mask",
        unfused,
        lambda: attention(Q, Q, Q, attn_mask=KEEP),
        ours=lambda: by_mindsd(Q, Q, Q, attn_mask=KEEP),
    ),
]
