"""MindIE SD's laser attention: asked only for what it computes, whatever else it offers."""

from dataclasses import replace

import pytest
import torch

from mindsd.attention.contract import Call, Varlen
from mindsd.attention.mindie_sd import LONG, MindieSd
from mindsd.attention.registry import Registry
from mindsd.attention.selftest import self_test
from tests.attention import peers
from tests.attention.simulated import simulated

HALF, CPU = torch.float16, torch.device("cpu")


@pytest.fixture
def theirs():
    own = peers.MindieSd()
    with simulated(), peers.installed("mindiesd", **own.functions()):
        yield own


def made(tokens=LONG, keys=None, heads=2, kv_heads=2, dim=16, values=None, dtype=HALF) -> Call:
    generator = torch.Generator().manual_seed(0)
    keys = tokens if keys is None else keys
    shapes = (tokens, heads, dim), (keys, kv_heads, dim), (keys, kv_heads, values or dim)
    q, k, v = (torch.randn(1, n, t, d, generator=generator).to(dtype) for t, n, d in shapes)
    return Call(q, k, v)


def test_it_is_asked_for_its_kernel_by_name(theirs):
    backend, call = MindieSd(("cpu",)), made()
    assert Registry([backend], []).choose(call) is backend  # after its self-test
    theirs.asked.clear()
    found = backend.run(replace(call, scale=0.3))
    assert theirs.asked == ["ascend_laser_attention"]
    expected = peers.REFERENCE.run(replace(call, scale=0.3))
    assert torch.equal(found, expected)


def test_each_defect_is_one_of_theirs_and_is_refused(theirs):
    """First that the stand-in has it, then that it is not met."""
    call, backend = made(dtype=torch.float32), MindieSd(("cpu",))
    q, k, v = call.q, call.k, call.v
    mask = torch.ones(1, 1, LONG, LONG, dtype=torch.bool).tril()
    plain = theirs.attention_forward(q, k, v, head_first=True)
    assert torch.equal(theirs.attention_forward(q, k, v, mask, head_first=True), plain)
    with pytest.raises(RuntimeError, match="List"):
        theirs.attention_forward_varlen(q, k, v, torch.tensor([0, 1]), torch.tensor([0, 1]))
    wide = made(dtype=torch.bfloat16)
    large = theirs.attention_forward(wide.q, wide.k, wide.v * 1e5, head_first=True)
    assert not large.isfinite().all()

    half, ends = made(), (0, 5, LONG)
    refused = {
        "drops the mask": replace(half, mask=mask),
        "neither causality nor windows": replace(half, causal=True),
        "nor windows": replace(half, window=(3, 3)),
        "its packed attention fails": replace(half, varlen=Varlen(ends, ends)),
        "torch.bfloat16 in float16": wide,
        "torch.float32 in float16": call,
        "no grouped heads, got 2": made(kv_heads=1),
        f"of {LONG} tokens and more, got ({LONG - 1}, {LONG - 1})": made(LONG - 1),
        f"got ({LONG}, {LONG + 1})": made(LONG, LONG + 1),
        "one head_dim of at most 128, got (136, 136)": made(dim=136),
        "got (16, 8)": made(values=8),
    }
    for words, asked in refused.items():
        reason = backend.refuses(asked)
        assert reason is not None and words in reason
    assert backend.refuses(half) is None


def test_a_kernel_that_is_wrong_is_passed_over(theirs, monkeypatch):
    laser = theirs._laser
    monkeypatch.setattr(theirs, "_laser", lambda *given: laser(*given) * 1.5)
    wrong = self_test(MindieSd(("cpu",)), CPU, HALF)
    assert wrong is not None and "4096 tokens: off by" in wrong


def test_where_it_is_not():
    assert MindieSd().refuses(made()) == "mindiesd is not installed"
    with peers.installed("mindiesd"):
        assert MindieSd().refuses(made()) == "tensors are on cpu, it computes on npu only"
        for chip in ("950", "310P"):
            with simulated(chip):
                assert MindieSd(("cpu",)).refuses(made()) == f"a {chip} has no laser attention"
