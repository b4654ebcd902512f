"""FlashAttention for NPUs, by a stand-in with its signatures."""

from dataclasses import replace

import pytest
import torch

from mindsd.attention.contract import Call, Varlen
from mindsd.attention.flash_npu import FlashNpu
from mindsd.attention.registry import Registry
from tests.attention import peers
from tests.attention.conftest import CASES, naive, table
from tests.attention.simulated import simulated


@pytest.fixture
def theirs():
    own = peers.FlashNpu()
    with simulated(), peers.installed("flash_attn_npu", **own.functions()):
        yield own


def made(**options) -> Call:
    q = torch.randn(1, 2, 6, 16, generator=torch.Generator().manual_seed(0)).half()
    return Call(q, q, q, **options)


def test_the_table(theirs):
    """Every call of the contract is right, or refused."""
    backend, answered = FlashNpu(("cpu",)), set()
    for case in CASES:
        call = table(torch.bfloat16, "cpu")[case]()
        if backend.refuses(call) is None:
            answered.add(case)
            found = backend.run(call)
            torch.testing.assert_close(found.double(), naive(call), rtol=2e-2, atol=2e-2)
    assert {"no mask", "causal", "causal, more keys", "grouped heads", "varlen"} <= answered
    assert not answered & {"bool mask", "windowed", "float32 bias"}


def test_the_registry_takes_it_after_its_self_test(theirs):
    backend = FlashNpu(("cpu",))
    registry = Registry([backend], [])
    call = made(causal=True)
    assert registry.choose(call) is backend
    assert torch.equal(registry.run(call), peers.REFERENCE.run(call))
    packed = made(varlen=Varlen((0, 2, 6), (0, 2, 6)), causal=True)
    assert torch.equal(registry.run(packed), peers.REFERENCE.run(packed))


def test_refusals(theirs):
    q = torch.zeros(1, 2, 6, 16).half()
    window = theirs.flash_attn_func(q, q, q, window_size=(1, 0))
    assert torch.equal(window, theirs.flash_attn_func(q, q, q))  # as read in its sources
    wide = torch.zeros(1, 2, 6, 264).half()
    refused = {
        "float16 and bfloat16, not torch.float32": Call(q.float(), q.float(), q.float()),
        "it takes no mask": made(mask=torch.ones(6, 6, dtype=torch.bool)),
        "no windows in all its versions, got (1, 0)": made(window=(1, 0)),
        "up to 256; got (264, 264)": Call(wide, wide, wide),
        "got (16, 8)": Call(q, q, q[..., :8]),
        "has no tokens": made(varlen=Varlen((0, 0, 6), (0, 0, 6))),
        "no row may be without a key": replace(made(causal=True), k=q[:, :, :3], v=q[:, :, :3]),
    }
    for words, call in refused.items():
        reason = FlashNpu(("cpu",)).refuses(call)
        assert reason is not None and words in reason


def test_where_it_is_not():
    assert "is not installed" in str(FlashNpu().refuses(made()))
    with peers.installed("flash_attn_npu"):
        assert FlashNpu().refuses(made()) == "tensors are on cpu, it computes on npu only"
        for chip in ("950", "310P"):
            with simulated(chip):
                assert FlashNpu(("cpu",)).refuses(made()) == f"it does not load on a {chip}"
