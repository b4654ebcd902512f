"""Dense and packed attention on a simulated NPU: which operator, with what, and that it is right.

The simulator (tests/npu/simulator) raises where a documented constraint is broken, and where
hardware is known to be silently wrong.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mindsd.attention.contract import Call, Varlen
from mindsd.attention.cpu import Reference
from mindsd.attention.divert import Diversion
from mindsd.attention.npu import Npu
from mindsd.attention.registry import Registry
from mindsd.attention.sdpa import Sdpa
from mindsd.attention.selftest import self_test
from mindsd.errors import AttentionRefused
from tests.attention.simulated import simulated

FUSION, INFER = "npu_fusion_attention", "npu_fused_infer_attention_score"
HALF, WIDE = torch.float16, torch.float32
NOT_CAUSAL = {"varlen", "varlen, an empty sequence"}


def made(tq, tk=None, heads=4, kv_heads=4, dim=64, values=None, batch=2, dtype=HALF, **options):
    """A call whose tensors lie as diffusion models project them: tokens before heads."""
    generator = torch.Generator().manual_seed(3)

    def tensor(tokens, n, size):
        return torch.randn(batch, tokens, n, size, generator=generator).to(dtype).transpose(1, 2)

    tk = tq if tk is None else tk
    k = tensor(tk, kv_heads, dim)
    return Call(tensor(tq, heads, dim), k, tensor(tk, kv_heads, values or dim), **options)


def answered(call, chip="910B"):
    """The one fused operator that answered, after its result was compared with float32."""
    with simulated(chip) as npu:
        backend = Npu(("cpu",))
        assert backend.refuses(call) is None
        found = backend.run(call)
        assert not npu.log.host_syncs
    wide = {
        name: None if (x := getattr(call, name)) is None or x.dtype == torch.bool else x.float()
        for name in ("q", "k", "v")
    }
    mask = call.mask if call.mask is None or call.mask.dtype == torch.bool else call.mask.float()
    rest = dict(causal=call.causal, window=call.window, scale=call.scale, varlen=call.varlen)
    expected = Reference().run(Call(**wide, mask=mask, **rest))
    assert found.dtype == call.q.dtype and found.shape == expected.shape
    tolerance = {HALF: 3e-3, torch.bfloat16: 2e-2, WIDE: 1e-5}[call.q.dtype]
    assert (found.float() - expected).abs().max() <= tolerance
    [asked] = npu.log.calls
    return asked


@pytest.mark.parametrize("chip", ["910B", "910_93", "950"])
@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16, WIDE])
def test_self_attention_lies_as_it_is_projected(chip, dtype):
    asked = answered(made(40, dtype=dtype), chip)
    assert asked.op == FUSION and asked["input_layout"] == "BSND"
    assert asked["query"].shape == (2, 40, 4, 64) and asked["head_num"] == 4
    assert asked["scale"] == pytest.approx(1 / 8) and asked["sparse_mode"] == 0
    assert asked["atten_mask"] is None and asked["pse"] is None and asked["inner_precise"] == 0


def test_heads_that_come_first_stay_there():
    call = made(40)
    call = Call(call.q.contiguous(), call.k.contiguous(), call.v.contiguous())
    assert answered(call)["input_layout"] == "BNSD"


def test_cross_attention_grouped_heads_and_a_scale():
    asked = answered(made(20, 33, heads=6, kv_heads=2, dim=80, scale=0.3))
    assert asked["key"].shape == (2, 33, 2, 80)  # not expanded
    assert asked["head_num"] == 6 and asked["scale"] == 0.3


@pytest.mark.parametrize("shape", [(2, 1, 1, 33), (1, 1, 20, 33), (2, 4, 20, 33), (20, 33)])
def test_a_bool_mask(shape):
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.3
    asked = answered(made(20, 33, mask=keep))
    assert asked["atten_mask"].dtype == torch.bool
    assert asked["atten_mask"].shape[2:] == (20, 33) and asked["inner_precise"] == 2
    assert asked["sparse_mode"] == 0
    assert asked["pre_tockens"] == asked["next_tockens"] == 2147483647


def test_rows_that_see_nothing_give_zeros():
    keep = torch.ones(2, 1, 20, 33, dtype=torch.bool)
    keep[1, :, 7:9] = False
    call = made(20, 33, mask=keep)
    answered(call)
    with simulated():
        assert not Npu(("cpu",)).run(call)[1, :, 7:9].any()


@pytest.mark.parametrize("tq, tk", [(20, 20), (1, 20), (7, 20), (20, 7)])
def test_causal_is_aligned_bottom_right(tq, tk):
    asked = answered(made(tq, tk, causal=True))
    assert asked["sparse_mode"] == 3 and asked["atten_mask"].shape == (2048, 2048)


@pytest.mark.parametrize("window", [(3, 2), (3, -1), (-1, 2), (0, 0)])
@pytest.mark.parametrize("tq, tk", [(20, 20), (7, 20), (20, 7)])
def test_windows_are_bands(window, tq, tk):
    assert answered(made(tq, tk, window=window))["sparse_mode"] == 4
    causal = answered(made(tq, tk, window=window, causal=True))
    assert causal["sparse_mode"] == (3 if window[0] < 0 else 4)


def test_a_bias_is_added_to_scores_that_are_scaled():
    """Documents disagree whether it is added before scaling; with a scale of 1 they agree."""
    bias = torch.randn(2, 1, 20, 33, generator=torch.Generator().manual_seed(0)).half()
    asked = answered(made(20, 33, mask=bias))
    assert asked["scale"] == 1.0 and asked["pse"].shape == (2, 4, 20, 33)
    keys_only = answered(made(20, 33, mask=bias[:, :, :1]))
    assert keys_only["pse"].shape == (2, 4, 1, 33)
    masked = bias.masked_fill(bias > 1, -math.inf)
    masked[0, 0, 3] = -math.inf
    answered(made(20, 33, mask=masked, causal=True))


def test_a_mask_of_0_and_minus_infinity_keeps_its_meaning():
    """diffusers' own way inverts it (huggingface/diffusers#14397)."""
    mask = torch.zeros(2, 1, 1, 33, dtype=HALF)
    mask[0, ..., 20:] = -math.inf
    mask[1, ..., 5:] = -10000.0
    answered(made(20, 33, mask=mask))
    answered(made(20, 33, mask=mask.float(), dtype=WIDE))


def test_masked_attention_reaches_beyond_65536_keys():
    """A reach of 65536 next tokens, as diffusers says it, would hide the others."""
    keep = torch.ones(1, 1, 1, 65600, dtype=torch.bool)
    keep[..., :65560] = False
    answered(made(2, 65600, heads=1, kv_heads=1, dim=16, batch=1, mask=keep))


@pytest.mark.parametrize(
    "case, op, words",
    [
        ({"dim": 128}, INFER, {"sparse_mode": 3, "input_layout": "TND"}),
        ({"dim": 128, "kv_heads": 2}, INFER, {"num_key_value_heads": 2}),
        ({"dim": 64}, INFER, {}),
        ({"dim": 64, "kv_heads": 2}, FUSION, {"sparse_mode": 3, "input_layout": "TND"}),
        ({"dim": 80}, FUSION, {}),
        ({"dim": 128, "dtype": WIDE}, FUSION, {}),
        (
            {"dim": 128, "window": (4, 0)},
            INFER,
            {"sparse_mode": 4, "pre_tokens": 4, "next_tokens": 0},
        ),
        ({"dim": 128, "window": (4, 0), "causal": False}, INFER, {"sparse_mode": 4}),
        ({"dim": 80, "window": (4, 0)}, FUSION, {"pre_tockens": 4, "next_tockens": 0}),
        # Without a mask fused inference averages all values (vllm-ascend#13699).
        ({"dim": 128, "causal": False}, FUSION, {"sparse_mode": 0}),
        ({"dim": 128, "causal": False, "window": (3, 2)}, FUSION, {"sparse_mode": 4}),
    ],
)
def test_packed_sequences(case, op, words):
    bounds = Varlen((0, 5, 12, 20), (0, 9, 16, 33))
    call = made(20, 33, batch=1, **{"causal": True, "varlen": bounds} | case)
    asked = answered(call)
    assert asked.op == op and asked["query"].shape == (20, 4, call.q.shape[3])
    assert {name: asked[name] for name in words} == words
    ends = ["actual_seq_lengths", "actual_seq_lengths_kv"]
    ends = ends if op == INFER else ["actual_seq_qlen", "actual_seq_kvlen"]
    assert [asked[name] for name in ends] == [[5, 12, 20], [9, 16, 33]]


def test_sequences_without_tokens_are_left_out():
    bounds = Varlen((0, 5, 5, 20), (0, 9, 9, 33))
    asked = answered(made(20, 33, batch=1, dim=128, causal=True, varlen=bounds))
    assert asked["actual_seq_lengths"] == [5, 20]


@pytest.mark.parametrize("mask", [None, (2, 1, 1, 32), (1, 1, 32, 32), (32, 32)])
def test_a_310p_has_prompt_flash_attention(mask):
    keep = None
    if mask is not None:
        keep = torch.rand(mask, generator=torch.Generator().manual_seed(0)) > 0.4
        keep[..., :1, 3:] = False  # the first row sees nothing where it is causal, too
        keep[..., :1, :3] = False
    asked = answered(made(32, mask=keep), "310P")
    assert asked.op == "npu_prompt_flash_attention" and asked["input_layout"] == "BNSD"
    assert asked["pre_tokens"] == asked["next_tokens"] == 2147483647
    assert asked["scale_value"] == pytest.approx(1 / 8) and asked["num_heads"] == 4
    assert asked["sparse_mode"] == 0 and asked["num_key_value_heads"] == 0
    assert answered(made(32, 16, causal=True), "310P")["atten_mask"].shape == (1, 1, 32, 16)


REFUSED = {
    "float64": (dict(dtype=torch.float64), "float16, bfloat16 and float32, not torch.float64"),
    "wide": (dict(dim=800), "head_dim must be at most 768, got 800"),
    "values": (dict(values=32), "on a 910B values must be as wide as keys, 64; got 32"),
    "heads": (dict(heads=260, kv_heads=260, dim=8), "at most 256 heads, got 260"),
    "no keys": (dict(tk=0), "(queries, keys) must be 1 to 1048576, got (8, 0)"),
    "bias": (dict(mask=torch.zeros(8, 8)), "its bias must be torch.float16, got torch.float32"),
    "blind": (
        dict(tk=8, batch=1, causal=True, varlen=Varlen((0, 6, 8), (0, 3, 8))),
        "packed, every row must see a key; got 6 queries over 3 keys",
    ),
    "empty": (
        dict(tk=8, batch=1, varlen=Varlen((0, 6, 8), (0, 8, 8))),
        "packed, every row must see a key; got 2 queries over 0 keys",
    ),
    "many": (
        dict(tq=1100, dim=8, batch=1, varlen=Varlen(tuple(range(1101)), tuple(range(1101)))),
        "it packs at most 1024 sequences, got 1100",
    ),
}
REFUSED_310P = {
    "bfloat16": (dict(dtype=torch.bfloat16), "a 310P attends in float16 only, got torch.bfloat16"),
    "groups": (dict(kv_heads=2), "a 310P takes no grouped heads, got 2 to a key head"),
    "bias": (dict(mask=torch.zeros(8, 8).half()), "a 310P adds no bias to its scores"),
    "masks": (dict(mask=torch.ones(1, 4, 8, 8) > 0), "a 310P takes one mask for all heads, got 4"),
    "odd": (dict(dim=72), "one head_dim, a multiple of 16 up to 512; got 72, 72"),
    "batch": (dict(batch=130, dim=16), "a 310P takes a batch of 128 and 256 heads, got 130, 4"),
    "packed": (dict(batch=1, varlen=Varlen((0, 8), (0, 8))), "a 310P takes no packed sequences"),
}


@pytest.mark.parametrize(
    "chip, case", [("910B", c) for c in REFUSED] + [("310P", c) for c in REFUSED_310P]
)
def test_refusals_have_their_numbers_and_another_backend_answers(chip, case):
    how, words = (REFUSED if chip == "910B" else REFUSED_310P)[case]
    call = made(**{"tq": 8} | how)
    with simulated(chip) as npu:
        backend = Npu(("cpu",))
        reason = backend.refuses(call)
        assert reason is not None and words in reason
        with pytest.raises(AttentionRefused):
            backend.run(call)
        assert Registry([backend, Sdpa()]).choose(call).name == "sdpa"
        assert npu.log.ops() == []


def test_values_narrower_than_keys_on_a_950():
    assert answered(made(20, values=32), "950").op == FUSION


@pytest.mark.parametrize("chip", ["910B", "910_93", "950", "310P"])
@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16, WIDE])
def test_it_passes_its_self_test(chip, dtype):
    with simulated(chip):
        assert self_test(Npu(("cpu",)), torch.device("cpu"), dtype) is None


def test_the_table_of_calls(case, call, check):
    """Every backend's own table: answered rightly, or refused."""
    with simulated():
        backend = Npu(("cpu",))
        if backend.refuses(call) is None:
            found = backend.run(call)
            tolerance = 2e-2 if call.q.dtype == torch.bfloat16 else None
            if tolerance is None:
                check(found, call)
            else:
                wide = Reference().run(call)
                assert (found.float() - wide.float()).abs().max() <= tolerance
        else:
            assert case in {"wide values", "float32 bias", "no keys", "varlen, an empty sequence"}


@pytest.mark.parametrize("how", ["plain", "three dimensions", "additive mask", "is_causal"])
def test_what_torchs_own_function_computes_plainly_stays_fused(how):
    """On an NPU it leaves fused attention for three dimensions and for any additive mask."""
    call = made(20, batch=1)
    q, k, v = call.q, call.k, call.v
    more: dict[str, Any] = {}
    if how == "three dimensions":
        q, k, v = q[0], k[0], v[0]
    if how == "additive mask":
        more = {"attn_mask": torch.zeros(20, 20).masked_fill(torch.eye(20) > 0, -math.inf).half()}
    if how == "is_causal":
        more = {"is_causal": True}
    with simulated() as npu:
        diverted = Diversion(Registry([Npu(("cpu",)), Sdpa()]))
        found = diverted.run(lambda: F.scaled_dot_product_attention(q, k, v, **more))
        assert npu.log.ops()[-1] == FUSION and diverted.calls == 1
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), **_wide(more))
    assert found.shape == q.shape and (found.float() - expected).abs().max() <= 3e-3


def _wide(options: dict[str, Any]) -> dict[str, Any]:
    return {name: x.float() if isinstance(x, torch.Tensor) else x for name, x in options.items()}


def test_a_chip_that_nobody_knows_is_refused(monkeypatch):
    monkeypatch.setattr("mindsd.attention.npu.npu_chip", lambda index: "Ascend910A")
    with simulated():
        assert Npu(("cpu",)).refuses(made(8)) == "it does not know the chip Ascend910A"


def test_without_torch_npu_or_for_other_devices():
    npu = Npu()
    npu.installed = False
    assert npu.refuses(made(8)) == "torch_npu is not installed"
    npu.installed = True
    assert npu.refuses(made(8)) == "tensors are on cpu, it computes on npu only"
    with pytest.raises(AttentionRefused, match="npu: "):
        npu.run(made(8))


def test_a_torch_npu_that_does_not_load_harms_nobody(monkeypatch, tmp_path):
    """As where CANN is missing: its import raises."""
    (tmp_path / "torch_npu.py").write_text("raise OSError('libhccl.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    call = made(8, dtype=WIDE)
    assert registry.explain(call)[0] == ("npu", "tensors are on cpu, it computes on npu only")
    assert registry.choose(call).name == "sdpa"
