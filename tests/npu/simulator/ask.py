"""One fused_infer_attention_score call, whichever version asked."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .masks import Sparse


@dataclass(frozen=True)
class Ask:
    """The arguments of both versions under one name each; lengths are host integers."""

    query: Tensor
    key: Tensor
    value: Tensor
    layout: str
    heads: int
    kv_heads: int
    scale: float
    sparse: Sparse
    pse: Tensor | None
    sink: Tensor | None
    q_lengths: list[int] | None
    kv_lengths: list[int] | None
    table: Tensor | None
    block: int
    inner_precise: int
    lse: bool

    @property
    def head_dim(self) -> int:
        last = self.query.shape[-1]
        return last // self.heads if self.layout == "BSH" else last
