"""Tier 0 stands in for torch_npu and leaves nothing behind."""

import importlib.util
import sys

import pytest
import torch

from tests.npu.simulator.checks import NotSimulated
from tests.npu.simulator.chip import CHIPS
from tests.npu.simulator.log import Like
from tests.npu.simulator.operators import OPERATORS
from tests.npu.simulator.schemas import schemas
from tests.npu.simulator.tier0 import stand_in

X = torch.ones(2, 8, dtype=torch.float16)
W = torch.ones(8, dtype=torch.float16)


def test_every_schema_is_defined_and_every_emulation_has_one(npu):
    for full in schemas():
        namespace, name = full.split("::")
        packet = getattr(getattr(torch.ops, namespace), name.split(".")[0])
        overload = name.partition(".")[2] or "default"
        assert str(getattr(packet, overload)._schema).split("(")[0] == full
    assert set(OPERATORS) <= set(schemas())


def test_the_module_looks_like_the_wheel(npu):
    torch_npu = importlib.import_module("torch_npu")
    assert importlib.util.find_spec("torch_npu") is not None
    assert torch_npu.npu_rms_norm is torch.ops.npu.npu_rms_norm
    assert torch_npu._npu_reshape_and_cache is torch.ops.atb._npu_reshape_and_cache
    assert not hasattr(torch_npu, "npu_rms_norms")


def test_nothing_stays():
    with pytest.raises(ZeroDivisionError), stand_in():
        raise ZeroDivisionError
    assert "torch_npu" not in sys.modules and not hasattr(torch, "npu")
    assert not hasattr(torch.ops.npu, "npu_rms_norm")
    assert not hasattr(torch.ops.atb, "_npu_reshape_and_cache")


@pytest.mark.parametrize("soc", CHIPS)
def test_each_time_has_a_chip_and_a_log_of_its_own(soc):
    with stand_in(soc) as npu:
        torch.ops.npu.npu_rms_norm(X, W)
        assert (npu.chip.soc, npu.log.ops()) == (soc, ["npu_rms_norm"])
        runtime = vars(torch)["npu"]
        assert runtime.get_device_name(0) == soc and not runtime.is_available()


def test_one_at_a_time(npu):
    with pytest.raises(RuntimeError, match="already imported"), stand_in():
        pass


def test_the_log_has_arguments_with_defaults(npu):
    torch.ops.npu.npu_rms_norm(X, W)
    (call,) = npu.log.calls
    assert call["input"] == Like((2, 8), torch.float16)
    assert call["epsilon"] == 1e-6 and call["other"] is None


def test_a_wrong_keyword_raises(npu):
    with pytest.raises(RuntimeError, match="Unknown keyword"):
        torch.ops.npu.npu_rms_norm(X, W, eps=1e-5)


def test_no_argument_is_dropped(npu):
    q = torch.ones(1, 2, 16, 64, dtype=torch.float16)
    with pytest.raises(NotSimulated, match="antiquant_scale"):
        torch.ops.npu.npu_fused_infer_attention_score(
            q, q, q, num_heads=2, input_layout="BNSD", antiquant_scale=W
        )
    assert npu.log.ops() == []


def test_an_operator_without_emulation_says_so(npu):
    with pytest.raises(NotImplementedError):
        torch.ops.npu.npu_moe_gating_top_k_softmax(X, k=1)


@pytest.mark.parametrize(
    "read, cause",
    [
        (lambda x: x.sum().item(), "item"),
        (lambda x: bool(x.any()), "item"),
        (lambda x: int(x.sum()), "item"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 0], "nonzero"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: torch.equal(x, x), "equal"),
        (lambda x: x.unique(), "unique"),
        (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
        (lambda x: x.cpu(), "copy to the host"),
        (lambda x: x.to("cpu"), "copy to the host"),
        (lambda x: x.tolist(), "copy to the host"),
    ],
)
def test_waits_of_the_host_are_counted(npu, read, cause):
    read(torch.ones(3))
    assert npu.log.host_syncs[cause] >= 1


def test_what_does_not_wait_is_not_counted(npu):
    slots = torch.arange(2, dtype=torch.int32)
    cache = torch.zeros(2, 16, 1, 8, dtype=torch.float16)
    rows = X.view(2, 1, 8)
    torch.ops.npu.npu_scatter_pa_kv_cache(rows, rows, cache, cache, slots, cache_mode="Norm")
    cache.view(-1, 8)[:2].add_(1).to(torch.float32).softmax(-1)
    X.repeat_interleave(torch.tensor([1, 2]), 0, output_size=3)
    torch.where(X > 0, X, -X)[torch.tensor([0, 1])]
    assert not npu.log.host_syncs
