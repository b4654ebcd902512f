"""Attention that leaves out the blocks of keys that matter least: faster, and lossy.

For the long sequences of video models and large images, on Ascend NPUs. Blocks of queries and keys
are compared by their means, and each block of queries reads the share of keys that is nearest to
it, its own always (the first stage of SpargeAttention, arXiv:2502.18137). It is never chosen
unasked: how much a model bears is for its user to see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mindsd.errors import RequestError

from .contract import Call
from .npu_sparse import STEP, attend_blocks, cannot_attend

LONG = 4096  # tokens: below, choosing costs about what it saves


class NpuSkipping:
    """Long self- and cross-attention without masks.

    Args:
        share: of the blocks of keys that is computed, above 0 and below 1.
        devices: kinds of devices whose tensors it takes.
        long: fewest tokens of queries and of keys.

    Raises:
        RequestError: the share is none.
    """

    def __init__(self, share: float, devices: Sequence[str] = ("npu",), long: int = LONG):
        if not 0 < share < 1:
            raise RequestError(f"sparse attention computes a share between 0 and 1, got {share}")
        self.name = f"npu sparse:{share:g}"
        self.share, self.devices, self.long = share, tuple(devices), long

    def refuses(self, call: Call) -> str | None:
        if call.q.device.type not in self.devices:
            return f"tensors are on {call.q.device.type}, it computes on npu only"
        if call.mask is not None or call.band != (-1, -1) or call.varlen is not None:
            return "it leaves nothing out of what is masked, causal, windowed or packed"
        tokens = call.q.shape[2], call.k.shape[2]
        if min(tokens) < self.long:
            return f"(queries, keys) must be at least {self.long} to leave some out, got {tokens}"
        return cannot_attend(call.q, call.k, call.v)

    def run(self, call: Call) -> Tensor:
        computed = nearest(call.q, call.k, self.share)
        return attend_blocks(call.q, call.k, call.v, computed, scale=call.scale)

    def trials(self, device: torch.device, dtype: torch.dtype) -> dict[str, Call]:
        """A call in which nothing that is left out matters: every block looks at itself alone."""
        blocks = -(-self.long // STEP)
        own = torch.eye(blocks, 64, device="cpu").repeat_interleave(STEP, 0) * 16
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(1, 2, blocks * STEP, 64, generator=generator, device="cpu")
        q = own.expand(1, 2, -1, -1).to(device, dtype)
        return {"blocks that see themselves": Call(q, q, v.to(device, dtype))}


def nearest(q: Tensor, k: Tensor, share: float) -> Tensor:
    """bool [B, H, blocks of q, blocks of k], True = compute: a share of each row, rounded up."""
    near = _means(q) @ _means(k).repeat_interleave(q.shape[1] // k.shape[1], 1).mT
    if q.shape[2] == k.shape[2]:
        near.diagonal(dim1=-2, dim2=-1).fill_(math.inf)
    kept = near.topk(math.ceil(share * near.shape[-1]), -1).indices
    return torch.zeros_like(near, dtype=torch.bool).scatter_(-1, kept, True)


def _means(x: Tensor) -> Tensor:
    """[B, H, blocks, D] float32; the last block may be shorter."""
    tokens = x.shape[2]
    blocks = -(-tokens // STEP)
    padded = F.pad(x.float(), (0, 0, 0, blocks * STEP - tokens))
    counts = torch.full((blocks, 1), STEP, dtype=torch.float32, device=x.device)
    counts[-1] = tokens - (blocks - 1) * STEP
    return padded.unflatten(2, (blocks, STEP)).sum(3) / counts
