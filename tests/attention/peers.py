"""Stand-ins for packages that exist for Ascend machines only, with their signatures and defects.

They compute with the reference what the real ones were seen to compute, or read to (mindiesd 3.1.0,
flash-attn-npu 0.4.2).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mindsd.attention.contract import Call, Varlen
from mindsd.attention.cpu import Reference

REFERENCE = Reference()


@contextmanager
def installed(name: str, **functions: Any) -> Iterator[None]:
    """A module of this name with these functions."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, loader=None)
    module.__dict__.update(functions)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]


class MindieSd:
    """mindiesd, as far as it attends: with its memory of the kernel that was fastest for a shape.

    Attributes:
        asked: the kernels that were called.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._fastest: dict[Any, str] = {}

    def functions(self) -> dict[str, Any]:
        own = self.attention_forward, self.attention_forward_varlen
        return {function.__name__: function for function in own}

    def attention_forward(
        self, query, key, value, attn_mask=None, scale=None, fused=True, head_first=False, **kwargs
    ) -> Tensor:
        tensors = (query, key, value)
        q, k, v = (x if head_first else x.transpose(1, 2) for x in tensors)
        mode = kwargs.get("opt_mode", "runtime")
        kernel = kwargs.get("op_type", "fused_attn_score")
        if mode == "runtime":  # by shapes alone: whether there is a mask makes no difference
            unmasked = "fused_attn_score" if attn_mask is not None else "ascend_laser_attention"
            kernel = self._fastest.setdefault(query.shape, unmasked)
        self.asked.append(kernel)
        if kernel == "ascend_laser_attention":
            found = self._laser(q, k, v, scale)
        else:
            found = REFERENCE.run(Call(q, k, v, mask=attn_mask, scale=scale))
        return found if head_first else found.transpose(1, 2)

    def attention_forward_varlen(self, q, k, v, cu_seqlens_q, cu_seqlens_k, **kwargs) -> Tensor:
        for given in (cu_seqlens_q, cu_seqlens_k):
            if isinstance(given, Tensor):
                raise RuntimeError("expected a value of type 'Optional[List[int]]'")
        raise NotImplementedError

    def _laser(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """In float16 whatever comes; without the mask, which it makes and passes on as None."""
        if q.shape[1] != k.shape[1]:
            raise RuntimeError("call aclnnLaserAttention failed")
        return REFERENCE.run(Call(q.half(), k.half(), v.half(), scale=scale)).to(q.dtype)


class FlashNpu:
    """flash_attn_npu: FlashAttention's arguments; windows are read and not honoured."""

    def functions(self) -> dict[str, Any]:
        own = self.flash_attn_func, self.flash_attn_varlen_func
        return {function.__name__: function for function in own}

    def flash_attn_func(
        self, q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)
    ) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return REFERENCE.run(Call(q, k, v, causal=causal, scale=softmax_scale)).transpose(1, 2)

    def flash_attn_varlen_func(
        self,
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p=0.0,
        softmax_scale=None,
        causal=False,
    ) -> Tensor:
        ends = [tuple(own.tolist()) for own in (cu_seqlens_q, cu_seqlens_k)]
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        longest = [max(b - a for a, b in zip(own, own[1:], strict=False)) for own in ends]
        assert longest == [max_seqlen_q, max_seqlen_k]
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        call = Call(q, k, v, causal=causal, scale=softmax_scale, varlen=Varlen(*ends))
        return REFERENCE.run(call)[0].transpose(0, 1)
