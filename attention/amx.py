"""bfloat16 on a CPU with AMX: flash attention of our own (amx.c).

torch's own kernel reaches a sixth to a third of what such a processor multiplies; this one is 1.2
to 5 times as fast on the layers of image models (benchmarks/attention.py prints the table).

Numbers that it cannot compute with (NaN, infinities, logits over 4e6, values over 1e12, a row whose
biases are all about the lowest number) are found on the way, and torch answers for that batch entry
or packed sequence. So what an entry or a sequence gives is the same, to the bit, whatever lies
beside it in a call and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from .amx_call import LEFT_OUT, amx_attend, amx_library
from .contract import Call, Varlen
from .sdpa import Sdpa
from .selftest import calls

DIMS = (32, 512)  # of heads
GROWN = 8  # times the tokens of the usual self-test

# What a call must have, of one batch entry or sequence: its answer must not depend on how many
# there are. Below, keys are packed for too few queries, or Python takes longer than the kernel.
# Two cores, torch's time over ours, batch 1:
#
#     heads x head_dim   queries x keys: 32 x 128   64 x 32   64 x 256   64 x 1024   128 x 128
#      1 x 64                            0.82       0.49      0.84       1.14        0.81
#      8 x 64                            0.97       1.10      1.12       1.39        1.26
#      8 x 128                           1.12       1.00      1.00       1.26        1.09
#     16 x 40                            1.30       1.40      1.52       1.59        1.88
QUERIES = 64
WIDE = 128  # from this head_dim on, twice as many queries
SCORES = 2**15  # over all heads


class Amx:
    """Dense and packed calls with any mask, window and grouped heads, in bfloat16."""

    name = "amx"

    def __init__(self) -> None:
        self._torch = Sdpa()

    def refuses(self, call: Call) -> str | None:
        if call.q.device.type != "cpu":
            return f"tensors are on {call.q.device.type}, it computes on cpu only"
        if call.q.dtype != torch.bfloat16:
            return f"it computes bfloat16, not {call.q.dtype}"
        if (reason := _cannot(call)) is not None:
            return reason
        library = amx_library()
        return library if isinstance(library, str) else None

    def run(self, call: Call) -> Tensor:
        out = _empty_like(call.q, call.v.shape[3])
        status = amx_attend(call, out, left_out(call))
        if any(status):
            for state, (place, part) in zip(status, parts(call, out), strict=True):
                if state and place.numel():
                    place.copy_(self._torch.run(part))
        return out

    def trials(self, device: torch.device, dtype: torch.dtype) -> dict[str, Call]:
        """The usual ones, grown until none of them is refused."""
        return {name: _grown(call) for name, call in calls(device, dtype).items()}


def left_out(call: Call) -> list[int]:
    """LEFT_OUT or 0 for each batch entry or packed sequence.

    What would be refused alone is left out of any company, and torch answers for it.
    """
    heads = call.q.shape[1]
    least = QUERIES if call.q.shape[3] < WIDE else 2 * QUERIES

    def state(queries: int, keys: int) -> int:
        return LEFT_OUT if queries < least or heads * queries * keys < SCORES else 0

    if call.varlen is None:
        return [state(call.q.shape[2], call.k.shape[2])] * call.q.shape[0]
    bounds = zip(pairwise(call.varlen.q), pairwise(call.varlen.k), strict=True)
    return [state(q1 - q0, k1 - k0) for (q0, q1), (k0, k1) in bounds]


def parts(call: Call, out: Tensor) -> Iterator[tuple[Tensor, Call]]:
    """Where the answer of each batch entry or packed sequence goes, and its own call."""
    if call.varlen is not None:
        for (start, stop), part in zip(pairwise(call.varlen.q), call.sequences(), strict=True):
            yield out[:, :, start:stop], part
        return
    for i in range(call.q.shape[0]):
        one = slice(i, i + 1)
        mask = call.mask if call.mask is None or call.mask.shape[0] == 1 else call.mask[one]
        yield out[one], replace(call, q=call.q[one], k=call.k[one], v=call.v[one], mask=mask)


def _cannot(call: Call) -> str | None:
    """What it cannot compute, or not faster than torch."""
    dim, value_dim = call.q.shape[3], call.v.shape[3]
    low, high = DIMS
    if dim % 2 or not low <= dim <= high:
        return f"head_dim {dim} is not even and {low} to {high}"
    if value_dim > high:
        return f"head_dim {value_dim} of the values is over {high}"
    if torch.is_grad_enabled() and any(x.requires_grad for x in (call.q, call.k, call.v)):
        return "gradients are asked for"
    if all(left_out(call)):
        size = f"{call.q.shape[2]} queries over {call.k.shape[2]} keys in {call.q.shape[1]} heads"
        packed = "" if call.varlen is None else f", of {len(call.varlen.q) - 1} sequences,"
        return f"{size}{packed} are too few to be faster than torch"
    return None


def _empty_like(q: Tensor, value_dim: int) -> Tensor:
    """[B, H, Tq, Dv], laid out as torch lays it out: tokens before heads where q has them so."""
    batch, heads, tokens, _ = q.shape
    if q.stride(2) > q.stride(1):
        return q.new_empty(batch, tokens, heads, value_dim).transpose(1, 2)
    return q.new_empty(batch, heads, tokens, value_dim)


def _grown(call: Call) -> Call:
    """GROWN times the tokens, four times the head_dim."""
    q, k, v = (x.repeat(1, 1, GROWN, 4) for x in (call.q, call.k, call.v))
    mask = None if call.mask is None else call.mask.repeat(1, 1, GROWN, GROWN)
    varlen = call.varlen
    if varlen is not None:
        varlen = Varlen(*(tuple(GROWN * own for own in side) for side in (varlen.q, varlen.k)))
    return replace(call, q=q, k=k, v=v, mask=mask, varlen=varlen)
