"""Writing keys and values to pages, and attending to them; the documented constraints of both."""

import pytest
import torch

from tests.npu.reference import close, seen, softmax_attention
from tests.npu.simulator.checks import AclnnError, SilentlyWrong

BLOCK, BLOCKS, N, KV, D = 128, 5, 4, 2, 128
LENGTHS = [130, 40]
TABLE = torch.tensor([[3, 1], [4, 0]], dtype=torch.int32)
TRIANGLE = torch.ones(2048, 2048, dtype=torch.bool).triu(1)


def drawn(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).half()


def slots_of(row, length):
    return [int(TABLE[row, p // BLOCK]) * BLOCK + p % BLOCK for p in range(length)]


def written(atb=False):
    """Caches [blocks, block, KV, D] with both sequences, and each one's own [1, KV, length, D]."""
    keys, values = drawn(sum(LENGTHS), KV, D), drawn(sum(LENGTHS), KV, D) * 2
    caches = [torch.full((BLOCKS, BLOCK, KV, D), torch.nan, dtype=torch.float16) for _ in "kv"]
    slots = sum((slots_of(row, length) for row, length in enumerate(LENGTHS)), [])
    slots = torch.tensor(slots, dtype=torch.int32)
    if atb:
        torch.ops.atb._npu_reshape_and_cache(keys, values, *caches, slots)
    else:
        torch.ops.npu.npu_scatter_pa_kv_cache(keys, values, *caches, slots, cache_mode="Norm")
    own = [[x.transpose(0, 1)[None] for x in rows.split(LENGTHS)] for rows in (keys, values)]
    return caches, list(zip(*own, strict=True))


def attend(q, caches, **options):
    given = {
        "num_heads": N,
        "num_key_value_heads": KV,
        "input_layout": "BSH",
        "scale": 0.1,
        "block_table": TABLE,
        "block_size": BLOCK,
        "actual_seq_lengths_kv": LENGTHS,
    }
    return torch.ops.npu.npu_fused_infer_attention_score(q, *caches, **given | options)[0]


def flat(caches):
    return [cache.view(BLOCKS, BLOCK, KV * D) for cache in caches]


def by_heads(caches):
    return [cache.transpose(1, 2).contiguous() for cache in caches]


@pytest.mark.parametrize("atb", [False, True])
def test_decode_reads_what_was_written(npu, atb):
    caches, own = written(atb)
    q = drawn(2, N, 1, D)
    out = attend(q.transpose(1, 2).reshape(2, 1, N * D), flat(caches))
    for row, (k, v) in enumerate(own):
        want = softmax_attention(q[row : row + 1], k, v, 0.1)
        close(out[row].view(1, N, D), want[0].transpose(0, 1))


@pytest.mark.parametrize("layout, form", [("BSND", flat), ("BNSD", flat), ("BNSD", by_heads)])
def test_several_tokens_see_the_pages_causally(npu, layout, form):
    caches, own = written()
    q = drawn(2, N, 3, D)
    laid = q if layout == "BNSD" else q.transpose(1, 2).contiguous()
    causal = {"sparse_mode": 3, "atten_mask": TRIANGLE}
    out = attend(laid, form(caches), input_layout=layout, **causal)
    out = out if layout == "BNSD" else out.transpose(1, 2)
    for row, (k, v) in enumerate(own):
        keep = seen(3, LENGTHS[row], 3)
        close(out[row : row + 1], softmax_attention(q[row : row + 1], k, v, 0.1, keep))


@pytest.mark.parametrize("form", [flat, by_heads])
def test_packed_queries_over_pages(npu, form):
    caches, own = written()
    q = drawn(1, N, 5, D)
    options = {"input_layout": "TND", "sparse_mode": 3, "atten_mask": TRIANGLE}
    rows = q[0].transpose(0, 1).contiguous()
    out = attend(rows, form(caches), actual_seq_lengths=[2, 5], **options)
    for (k, v), a, b in zip(own, (0, 2), (2, 5), strict=True):
        keep = seen(b - a, k.shape[2], 3)
        want = softmax_attention(q[:, :, a:b], k, v, 0.1, keep)
        close(out[a:b], want[0].transpose(0, 1))


def test_one_length_may_count_for_all(npu):
    caches, own = written()
    q = drawn(2, 1, N * D)
    out = attend(q, flat(caches), actual_seq_lengths_kv=[40])
    k, v = (x[:, :, :40] for x in own[0])
    want = softmax_attention(q[:1].view(1, N, 1, D), k, v, 0.1)
    close(out[:1].view(1, N, 1, D), want)


Q1, Q3 = torch.zeros(2, 1, N * D).half(), torch.zeros(2, 3, N * D).half()
CACHES = [torch.zeros(BLOCKS, BLOCK, KV * D).half() for _ in "kv"]
SMALL = [torch.zeros(BLOCKS, 16, KV * D).half() for _ in "kv"]
ODD = [torch.zeros(BLOCKS, 24, KV * D).half() for _ in "kv"]
SHORT = {"block_size": 16, "actual_seq_lengths_kv": [20, 20]}
REFUSED = {
    "needs actual_seq_lengths_kv": (Q1, CACHES, {"actual_seq_lengths_kv": None}),
    "block_table is torch.int64": (Q1, CACHES, {"block_table": TABLE.long()}),
    r"block_table is \(1, 2\)": (Q1, CACHES, {"block_table": TABLE[:1]}),
    "has 257 tokens, its block_table reaches 256": (
        Q1,
        CACHES,
        {"actual_seq_lengths_kv": [257, 1]},
    ),
    "names blocks outside 0..4": (Q1, CACHES, {"block_table": TABLE + 1}),
    "row 0 names blocks": (Q1, CACHES, {"block_table": TABLE - 2}),
    "the cache's blocks hold 128": (Q1, CACHES, {"block_size": 64}),
    "must be a multiple of 16": (Q1, ODD, {**SHORT, "block_size": 24}),
    "must be a multiple of 128": (Q3, SMALL, SHORT),
    "does not hold": (Q1, CACHES, {"num_key_value_heads": 1}),
    "N . D. only": (Q1, [c.view(BLOCKS, KV, BLOCK, D) for c in CACHES], {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_documented_constraints(npu, message):
    q, caches, options = REFUSED[message]
    with pytest.raises(AclnnError, match=message):
        attend(q, caches, **options)


def test_small_blocks_are_fine_for_one_token(npu):
    assert attend(Q1, SMALL, **SHORT).shape == Q1.shape


def test_a_mask_in_decode_is_reported_as_ignored(npu):
    mask = torch.zeros(2, 1, 1, 2 * BLOCK, dtype=torch.bool)
    with pytest.raises(SilentlyWrong, match="past position 512"):
        attend(Q1, CACHES, atten_mask=mask)


ROWS = torch.zeros(2, KV, D).half()
CACHE = torch.zeros(BLOCKS, BLOCK, KV, D).half()
SLOTS = torch.tensor([5, 6], dtype=torch.int32)
NOT_WRITTEN = {
    "pass cache_mode='Norm'": {"cache_mode": "PA_NZ"},
    "slot_mapping is torch.int16": {"slot_mapping": SLOTS.short()},
    "slots repeat": {"slot_mapping": torch.tensor([5, 5])},
    "slots -1..6": {"slot_mapping": torch.tensor([-1, 6])},
    "slots 0..640": {"slot_mapping": torch.tensor([0, BLOCKS * BLOCK])},
    "slots for 2 tokens": {"slot_mapping": SLOTS[:1]},
    "differ in dtype": {"key": ROWS.bfloat16()},
    "key is not contiguous": {"key": torch.zeros(KV, 2, D).half().transpose(0, 1)},
    "key_cache is not contiguous": {"key_cache": CACHE.mT.contiguous().mT},
    "caches must be": {"key_cache": CACHE.flatten(2)},
    "does not fit": {"key_cache": CACHE[:, :, :1].contiguous()},
    "differ in tokens": {"value": ROWS[:1]},
}


@pytest.mark.parametrize("message", NOT_WRITTEN)
def test_documented_constraints_of_writing(npu, message):
    given = {"key": ROWS, "value": ROWS, "key_cache": CACHE, "value_cache": CACHE.clone()}
    given |= {"slot_mapping": SLOTS, "cache_mode": "Norm"} | NOT_WRITTEN[message]
    with pytest.raises(AclnnError, match=message):
        torch.ops.npu.npu_scatter_pa_kv_cache(**given)


def test_the_default_format_is_not_nd(npu):
    with pytest.raises(AclnnError, match="PA_NZ is the default"):
        torch.ops.npu.npu_scatter_pa_kv_cache(ROWS, ROWS, CACHE, CACHE.clone(), SLOTS)


def test_atb_wants_int32_slots(npu):
    with pytest.raises(AclnnError, match="expected int32"):
        torch.ops.atb._npu_reshape_and_cache(ROWS, ROWS, CACHE, CACHE.clone(), SLOTS.long())
