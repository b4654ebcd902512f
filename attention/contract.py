"""What is asked of attention (`Call`) and who answers (`Backend`).

A backend either refuses by name or computes exactly what the call says. It never drops an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from mindsd.errors import RequestError


@dataclass(frozen=True)
class Varlen:
    """Where packed sequences begin: cumulative token counts, as plain integers.

    Sequence i owns the queries `q[i] .. q[i + 1]` and the keys and values `k[i] .. k[i + 1]`.
    They are integers and no tensors, so that no backend has to wait for the device to read them.
    """

    q: tuple[int, ...]
    k: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.q) != len(self.k) or len(self.q) < 2:
            raise RequestError(
                f"varlen needs one more boundary than sequences on both sides, at least 2; "
                f"got {len(self.q)} for q and {len(self.k)} for k"
            )
        for side, bounds in (("q", self.q), ("k", self.k)):
            if bounds[0] != 0 or any(a > b for a, b in pairwise(bounds)):
                raise RequestError(f"varlen {side} must start at 0 and never fall; got {bounds}")


@dataclass(frozen=True, eq=False)
class Call:
    """One question: softmax(q k^T * scale + mask) v, for these tensors.

    Query row i stands at key position i + Tk - Tq (bottom-right aligned, as FlashAttention does it
    since version 2.1; torch's own `is_causal` is aligned top-left). A row that may attend to
    nothing, be it by mask, causality or window, gives zeros.

    Attributes:
        q: [B, H, Tq, D], floating point.
        k: [B, Hkv, Tk, D], same dtype and device. H is a multiple of Hkv; query head h reads key
            head h // (H / Hkv) (grouped heads, arXiv:2305.13245).
        v: [B, Hkv, Tk, Dv], same dtype and device.
        mask: bool (True = attend) or an additive bias in q's dtype or float32, broadcastable to
            [B, H, Tq, Tk]. Kept as four dimensions.
        causal: a row sees no key after its own position.
        window: (left, right): a row sees keys from `left` before to `right` after its position;
            -1 is no limit. Combines with causal and mask: a key must be allowed by all.
        scale: None is 1 / sqrt(D).
        varlen: the token dimension holds several sequences end to end (B must be 1); each attends
            to itself only, causal and window count within it. Excludes a mask.

    Raises:
        RequestError: the parts contradict each other; the message has the numbers.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None = None
    causal: bool = False
    window: tuple[int, int] | None = None
    scale: float | None = None
    varlen: Varlen | None = None

    def __post_init__(self) -> None:
        q, k, v = self.q, self.k, self.v
        if problem := _ill_shaped(q, k, v):
            shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
            raise RequestError(f"attention call: {problem}; got {shapes}")
        if problem := _ill_matched(q, k, v) or _ill_masked(self) or _ill_optioned(self):
            raise RequestError(f"attention call: {problem}")
        if self.mask is not None and self.mask.dim() < 4:
            missing = (1,) * (4 - self.mask.dim())
            object.__setattr__(self, "mask", self.mask.reshape(missing + self.mask.shape))

    @property
    def groups(self) -> int:
        """Query heads that share one key head."""
        return self.q.shape[1] // self.k.shape[1]

    @property
    def scaling(self) -> float:
        """The scale that applies."""
        return 1 / math.sqrt(self.q.shape[-1]) if self.scale is None else self.scale

    @property
    def band(self) -> tuple[int, int]:
        """Causal and window as one (left, right) reach; -1 is no limit."""
        left, right = self.window or (-1, -1)
        return left, 0 if self.causal else right

    def sequences(self) -> Iterator[Call]:
        """A packed call as one call per sequence; a call that is not packed as itself."""
        if self.varlen is None:
            yield self
            return
        for (q0, q1), (k0, k1) in zip(
            pairwise(self.varlen.q), pairwise(self.varlen.k), strict=True
        ):
            part = (self.q[:, :, q0:q1], self.k[:, :, k0:k1], self.v[:, :, k0:k1])
            yield Call(*part, causal=self.causal, window=self.window, scale=self.scale)


class Backend(Protocol):
    """One way to compute a call.

    One that refuses small calls has its own to be tested with: `trials`, as `selftest.calls`.
    """

    @property
    def name(self) -> str: ...

    def refuses(self, call: Call) -> str | None:
        """Why this call cannot be computed exactly, or None. Cheap: asked before every call."""
        ...

    def run(self, call: Call) -> Tensor:
        """[B, H, Tq, Dv] in q's dtype on q's device. Only asked for calls that are not refused."""
        ...


def _ill_shaped(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    if not q.dim() == k.dim() == v.dim() == 4:
        return "q, k and v must be [batch, heads, tokens, head_dim]"
    (batch, heads, _, dim), (k_batch, k_heads, keys, k_dim) = q.shape, k.shape
    v_batch, v_heads, values, v_dim = v.shape
    if not batch == k_batch == v_batch:
        return "batch sizes differ"
    if k_heads != v_heads or keys != values:
        return "k and v must have the same heads and tokens"
    if dim != k_dim or dim == 0 or v_dim == 0:
        return "q and k must have the same head_dim, of at least 1"
    if k_heads == 0 or heads % k_heads:
        return "query heads must be a multiple of key heads"
    return None


def _ill_matched(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    if not q.is_floating_point() or not q.dtype == k.dtype == v.dtype:
        return f"q, k and v must share one floating dtype; got {q.dtype}, {k.dtype}, {v.dtype}"
    if not q.device == k.device == v.device:
        return f"q, k and v lie on {q.device}, {k.device}, {v.device}; move them to one device"
    return None


def _ill_masked(call: Call) -> str | None:
    mask = call.mask
    if mask is None:
        return None
    if call.varlen is not None:
        return "a packed call takes no mask; its sequences already see themselves only"
    if mask.dtype not in (torch.bool, torch.float32, call.q.dtype):
        return f"mask must be bool, float32 or {call.q.dtype}; got {mask.dtype}"
    if mask.device != call.q.device:
        return f"mask lies on {mask.device}, q on {call.q.device}"
    full = (*call.q.shape[:3], call.k.shape[2])
    fits = zip(reversed(mask.shape), reversed(full), strict=False)
    if mask.dim() > 4 or any(size not in (1, whole) for size, whole in fits):
        return f"mask {tuple(mask.shape)} does not broadcast to [B, H, Tq, Tk] = {full}"
    return None


def _ill_optioned(call: Call) -> str | None:
    if call.window is not None and (len(call.window) != 2 or min(call.window) < -1):
        return f"window must be (left, right), each -1 or more; got {call.window}"
    if call.scale is not None and not math.isfinite(call.scale):
        return f"scale must be finite; got {call.scale}"
    if call.varlen is not None:
        ends = (call.varlen.q[-1], call.varlen.k[-1])
        if call.q.shape[0] != 1 or ends != (call.q.shape[2], call.k.shape[2]):
            return (
                f"packed sequences end at {ends} in a batch of 1; "
                f"got batch {call.q.shape[0]}, tokens {(call.q.shape[2], call.k.shape[2])}"
            )
    return None
