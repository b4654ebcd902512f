"""What stands beside attention in a language model, in Triton: a program for a row of numbers.

Rounding is the model's own: what transformers rounds to the dtype between two operations is rounded
here. This file is imported where Triton is.
"""

import triton
import triton.language as tl


@triton.jit
def norm_rows(x, residual, weight, out, summed, width, eps, WIDE: tl.constexpr, ADD: tl.constexpr):
    """RMSNorm of rows of x, or of x + residual, which is kept."""
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, WIDE)
    live = at < width
    own = tl.load(x + row + at, mask=live, other=0.0)
    if ADD:
        own = own + tl.load(residual + row + at, mask=live, other=0.0)
        tl.store(summed + row + at, own, mask=live)
    wide = own.to(tl.float32)
    mean = tl.sum(wide * wide, 0) / width
    normed = (wide * tl.rsqrt(mean + eps)).to(own.dtype)
    tl.store(out + row + at, normed * tl.load(weight + at, mask=live, other=0.0), mask=live)


@triton.jit
def gate_rows(both, out, width, WIDE: tl.constexpr):
    """silu(first half) * second half, of rows of 2 * width."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    live = at < width
    gate = tl.load(both + row * 2 * width + at, mask=live, other=0.0)
    up = tl.load(both + row * 2 * width + width + at, mask=live, other=0.0)
    wide = gate.to(tl.float32)
    silu = (wide * tl.sigmoid(wide)).to(gate.dtype)
    tl.store(out + row * width + at, silu * up, mask=live)


@triton.jit
def rotate_rows(
    x,
    cos,
    sin,
    out,
    x_batch,
    x_head,
    x_token,
    out_batch,
    out_head,
    out_token,
    angle_batch,
    angle_token,
    heads,
    tokens,
    HALF: tl.constexpr,
    WIDE: tl.constexpr,
    PAIRS: tl.constexpr,
):
    """One head of one token: x * cos + turned(x) * sin, halves or pairs turned."""
    line = tl.program_id(0)
    token, head, batch = line % tokens, line // tokens % heads, line // tokens // heads
    at = tl.arange(0, WIDE)
    live = at < HALF
    first, second = at, at + HALF
    if PAIRS:
        first, second = 2 * at, 2 * at + 1
    own = x + batch.to(tl.int64) * x_batch + head * x_head + token.to(tl.int64) * x_token
    to = out + batch.to(tl.int64) * out_batch + head * out_head + token.to(tl.int64) * out_token
    angle = batch * angle_batch + token * angle_token
    a = tl.load(own + first, mask=live, other=0.0)
    b = tl.load(own + second, mask=live, other=0.0)
    cos_a = tl.load(cos + angle + first, mask=live, other=0.0)
    cos_b = tl.load(cos + angle + second, mask=live, other=0.0)
    sin_a = tl.load(sin + angle + first, mask=live, other=0.0)
    sin_b = tl.load(sin + angle + second, mask=live, other=0.0)
    tl.store(to + first, a * cos_a - b * sin_a, mask=live)
    tl.store(to + second, b * cos_b + a * sin_b, mask=live)
