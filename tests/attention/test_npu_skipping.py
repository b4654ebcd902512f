"""Attention that leaves blocks out, through the registry, on a simulated NPU."""

from dataclasses import replace

import pytest
import torch

from mindsd.attention.chosen import check_attention, registry_of
from mindsd.attention.contract import Call
from mindsd.attention.cpu import Reference
from mindsd.attention.npu import Npu
from mindsd.attention.npu_skipping import NpuSkipping, nearest
from mindsd.attention.registry import Registry
from mindsd.attention.selftest import self_test
from mindsd.errors import RequestError
from tests.attention.simulated import simulated

LONG, HALF = 512, torch.float16
OPERATOR = "npu_block_sparse_attention"


def made(tokens=600, keys=None, dtype=HALF, dim=64) -> Call:
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 4, tokens, dim), (1, 2, keys or tokens, dim), (1, 2, keys or tokens, dim)
    q, k, v = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return Call(q, k, v)


def skipping(share=0.5) -> NpuSkipping:
    return NpuSkipping(share, ("cpu",), LONG)


def test_the_registry_asks_it_for_long_calls_and_others_for_the_rest():
    with simulated() as npu:
        registry = Registry([skipping(), Npu(("cpu",))], [])
        call = made()
        assert registry.choose(call).name == "npu sparse:0.5"
        npu.log.clear()
        found = registry.run(call)
        [asked] = npu.log.calls
        assert asked.op == OPERATOR and not npu.log.host_syncs
        for other in (made(500), replace(call, causal=True), replace(call, window=(9, 9))):
            assert registry.choose(other).name == "npu"
    keep = nearest(call.q, call.k, 0.5)
    assert keep.shape == (1, 4, 5, 5) and (keep.sum(-1) == 3).all()
    whole = keep.repeat_interleave(128, 2).repeat_interleave(128, 3)[:, :, :600, :600]
    expected = Reference().run(replace(call, mask=whole))
    assert (found - expected).abs().max() <= 3e-3
    assert (found - Reference().run(call)).abs().max() > 0.05  # it is lossy


def test_what_is_kept_is_what_matters():
    """Keys in clusters, as neighbouring tokens of a picture are: half of the work loses little."""
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(1, 2, 8, 64, generator=generator)
    q = centres.repeat_interleave(128, 2) + 0.3 * torch.randn(1, 2, 1024, 64, generator=generator)
    call = Call(q.half(), q.half(), torch.randn(1, 2, 1024, 64, generator=generator).half())
    exact = Reference().run(call)
    with simulated():
        apart = (skipping(0.25).run(call) - exact).abs().max()
    assert nearest(call.q, call.k, 0.25).sum() == 2 * 8 * 2
    assert apart <= 5e-3


def test_a_block_reads_itself_and_shares_are_rounded_up():
    keep = nearest(torch.zeros(1, 1, 300, 64), torch.zeros(1, 1, 300, 64), 0.01)
    assert torch.equal(keep[0, 0], torch.eye(3, dtype=torch.bool))
    cross = nearest(torch.ones(1, 2, 130, 64), torch.ones(1, 1, 600, 64), 0.5)
    assert cross.shape == (1, 2, 2, 5) and (cross.sum(-1) == 3).all()


@pytest.mark.parametrize("dtype", [HALF, torch.bfloat16])
def test_its_self_test_is_one_that_leaving_out_must_pass(dtype, monkeypatch):
    with simulated():
        own = skipping(0.5)
        assert self_test(own, torch.device("cpu"), dtype) is None
        monkeypatch.setattr(own, "run", lambda call: Reference().run(call) * 1.5)
        assert "blocks that see themselves: off by" in str(
            self_test(own, torch.device("cpu"), dtype)
        )


def test_refusals():
    with simulated():
        refused = {
            "it computes on npu only": NpuSkipping(0.5).refuses(made()),
            "must be at least 512": skipping().refuses(made(600, 300)),
            "masked, causal, windowed or packed": skipping().refuses(
                replace(made(), mask=torch.ones(600, 600, dtype=torch.bool))
            ),
            "float16 and bfloat16": skipping().refuses(made(dtype=torch.float32)),
            "head_dim must be one of 64, 128": skipping().refuses(made(dim=32)),
        }
    with simulated("950"):
        refused["a 950 has no operator"] = skipping().refuses(made())
    for words, reason in refused.items():
        assert reason is not None and words in reason


def test_the_wish_is_a_word():
    for wish in ("sparse:0", "sparse:1", "sparse:x", "sparse", "fast"):
        with pytest.raises(RequestError, match="a share is between 0 and 1"):
            check_attention(wish, "npu")
    with pytest.raises(RequestError, match="is of Ascend NPUs; the model is on cpu"):
        check_attention("sparse:0.5", "cpu")
    for package in ("mindiesd", "flash-attn-npu"):
        with pytest.raises(RequestError, match=f"not installed: {package}"):
            check_attention(package, "npu")
    with simulated("950"), pytest.raises(RequestError, match="a 950 has no operator"):
        check_attention("sparse:0.5", "npu")
    with simulated():
        check_attention("sparse:0.5", "npu")
    first, usual = registry_of("sparse:0.5"), registry_of("auto")
    assert first is not None and first.backends[0].name == "npu sparse:0.5"
    assert registry_of("off") is None
    assert usual is not None and not any("sparse" in own.name for own in usual.backends)
