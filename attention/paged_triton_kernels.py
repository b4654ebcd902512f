"""Attention over pages in Triton: one program for some tokens of a sequence and one key head.

Written from the papers: online softmax over tiles of keys (FlashAttention, arXiv:2205.14135), keys
divided among programs where there are few sequences (Flash-Decoding), blocks found by a table
(arXiv:2309.06180). The heads of a group are rows of one product, so a token's keys are read once.

    rows      token 0 head 0, token 0 head 1, .. token 1 head 0, ..     (padded to 16)
    keys      tile of KEYS, each from the block that the table says, those out of sight left out

Nothing here depends on how long a sequence is but the integers in tensors, so a CUDA graph of it
runs again for longer ones. This file is imported where Triton is.
"""

import triton
import triton.language as tl


@triton.jit
def attend_tiles(
    query,  # [T, H, D]
    keys,  # [heads, blocks, size, D]
    values,  # [heads, blocks, size, Dv]
    key_scales,  # float32 [heads, blocks, size, 1], where pages are int8
    value_scales,
    sinks,  # [H]
    fields,  # int64 [N, 4], see Tiles
    table,  # int64
    out,  # [T, H, Dv]
    part,  # float32 [T, H, splits, Dv], [T, H, splits, 2] behind each other
    part_facts,
    scale,
    softcap,
    window,
    query_token,
    query_head,
    key_head,
    key_block,
    value_head,
    value_block,
    SIZE: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    WIDE: tl.constexpr,  # D and DV as powers of two
    WIDE_V: tl.constexpr,
    GROUPS: tl.constexpr,
    TOGETHER: tl.constexpr,  # heads of a group that one program takes
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    SPLIT: tl.constexpr,
    INT8: tl.constexpr,
    CAPPED: tl.constexpr,
    WINDOWED: tl.constexpr,
    SUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tile, part_of_heads, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts: tl.constexpr = (GROUPS + TOGETHER - 1) // TOGETHER
    head = part_of_heads // parts
    start = tl.load(fields + tile * 4).to(tl.int32)
    count = tl.load(fields + tile * 4 + 1).to(tl.int32)
    past = tl.load(fields + tile * 4 + 2).to(tl.int32)
    first = tl.load(fields + tile * 4 + 3).to(tl.int32)

    wide = head.to(tl.int64)  # pages may be longer than 32 bits count
    row = tl.arange(0, ROWS)
    token, member = row // TOGETHER, row % TOGETHER + part_of_heads % parts * TOGETHER
    live = (token < count) & (member < GROUPS)
    position = past + token
    head_of_row = head * GROUPS + member
    d, dv = tl.arange(0, WIDE), tl.arange(0, WIDE_V)
    offset = (start + token).to(tl.int64) * query_token + head_of_row.to(tl.int64) * query_head
    asked = live[:, None] & (d < D)[None, :]
    q = tl.load(query + offset[:, None] + d[None, :], mask=asked, other=0.0)

    most = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    if SUNK:
        if split == 0:
            most = tl.load(sinks + head_of_row, mask=live, other=0.0).to(tl.float32)
            total = tl.full([ROWS], 1.0, tl.float32)
    gathered = tl.zeros([ROWS, WIDE_V], tl.float32)

    end = past + count
    begin = 0
    if WINDOWED:
        begin = tl.maximum(0, past - window + 1) // KEYS * KEYS
    share = tl.cdiv(tl.cdiv(end - begin, KEYS), tl.num_programs(2)) * KEYS
    begin = begin + split * share
    stop = tl.minimum(end, begin + share)
    for at in range(begin, stop, KEYS):
        key = at + tl.arange(0, KEYS)
        here = key < stop
        if WINDOWED:
            here = here & (key > past - window)
        block = tl.load(table + first + key // SIZE, mask=here, other=0)
        slot = block * SIZE + key % SIZE
        place = wide * key_head + block * key_block + (key % SIZE) * D
        known = (d < D)[:, None] & here[None, :]
        k = tl.load(keys + place[None, :] + d[:, None], mask=known, other=0.0)
        place = wide * value_head + block * value_block + (key % SIZE) * DV
        known = here[:, None] & (dv < DV)[None, :]
        v = tl.load(values + place[:, None] + dv[None, :], mask=known, other=0.0)
        if INT8:
            slot = slot + wide * (key_head // D)
            own = tl.load(key_scales + slot, mask=here, other=0.0)
            k = (k.to(tl.float32) * own[None, :]).to(q.dtype)
            own = tl.load(value_scales + slot, mask=here, other=0.0)
            v = (v.to(tl.float32) * own[:, None]).to(q.dtype)
        scores = tl.dot(q, k, input_precision=PRECISION) * scale
        if CAPPED:
            scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # tanh
        seen = here[None, :] & (key[None, :] <= position[:, None])
        if WINDOWED:
            seen = seen & (key[None, :] > position[:, None] - window)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # nothing was seen yet
        weights = tl.exp(scores - base[:, None])
        fade = tl.exp(most - base)
        total = total * fade + tl.sum(weights, 1)
        gathered = gathered * fade[:, None]
        gathered += tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        most = higher

    line = (start + token).to(tl.int64) * (tl.num_programs(1) // parts * GROUPS) + head_of_row
    told = live[:, None] & (dv < DV)[None, :]
    if SPLIT:
        line = line * tl.num_programs(2) + split
        tl.store(part + line[:, None] * DV + dv[None, :], gathered, mask=told)
        tl.store(part_facts + line * 2, most, mask=live)
        tl.store(part_facts + line * 2 + 1, total, mask=live)
    else:
        gathered = gathered / tl.where(total == 0.0, 1.0, total)[:, None]
        put = out + line[:, None] * DV + dv[None, :]
        tl.store(put, gathered.to(out.dtype.element_ty), mask=told)


@triton.jit
def join_parts(
    part, part_facts, out, splits, DV: tl.constexpr, WIDE_V: tl.constexpr, MOST: tl.constexpr
):
    """One row of `out`, from what each split of its keys came to."""
    line = tl.program_id(0).to(tl.int64)
    split, dv = tl.arange(0, MOST), tl.arange(0, WIDE_V)
    live = split < splits
    facts = part_facts + (line * splits + split) * 2
    most = tl.load(facts, mask=live, other=float("-inf"))
    total = tl.load(facts + 1, mask=live, other=0.0)
    highest = tl.max(most, 0)
    weight = tl.exp(most - tl.where(highest == float("-inf"), 0.0, highest))
    known = live[:, None] & (dv < DV)[None, :]
    own = part + (line * splits + split)[:, None] * DV + dv[None, :]
    gathered = tl.sum(tl.load(own, mask=known, other=0.0) * weight[:, None], 0)
    whole = tl.sum(total * weight, 0)
    gathered = gathered / tl.where(whole == 0.0, 1.0, whole)
    tl.store(out + line * DV + dv, gathered.to(out.dtype.element_ty), mask=dv < DV)
