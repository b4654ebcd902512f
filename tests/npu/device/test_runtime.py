"""torch_npu's runtime over the stand-in for CANN: devices, streams, memory, random numbers."""

import gc

import pytest
import torch

from tests.npu.simulator.checks import LENIENT


@pytest.fixture
def runtime():
    """torch.npu, which type checkers do not know."""
    return torch.get_device_module("npu")


def test_the_device_says_what_it_is(runtime):
    assert runtime.is_available() and runtime.device_count() == 2
    assert runtime.get_device_name() == "Ascend910B1"
    assert runtime.is_bf16_supported()
    assert torch.accelerator.current_accelerator() == torch.device("npu")


def test_tensors_move_between_host_and_devices():
    x = torch.arange(6.0).view(2, 3).t()
    there = x.to("npu")
    other = there.to("npu:1")
    assert (there.device, other.device) == (torch.device("npu:0"), torch.device("npu:1"))
    assert torch.equal(other.cpu(), x) and (there * 2).device == there.device
    pinned = torch.ones(3).pin_memory()
    assert pinned.is_pinned() and pinned.to("npu", non_blocking=True).sum().item() == 3


def test_set_device(runtime):
    runtime.set_device(1)
    assert torch.ones(1, device="npu").device.index == runtime.current_device() == 1
    runtime.set_device(0)
    with pytest.raises(RuntimeError):
        runtime.set_device(2)


def test_memory_is_shared_with_views_and_changed_in_place():
    x = torch.zeros(4, 4, device="npu")
    x[1:3].add_(1)
    x.t()[0].fill_(5)
    torch.add(x, 1, out=x)
    x[None, 3:].squeeze(0).unsqueeze(-1).neg_()
    want = torch.tensor([[6.0, 1, 1, 1], [6, 2, 2, 2], [6, 2, 2, 2], [-6, -1, -1, -1]])
    assert torch.equal(x.cpu(), want)


def test_streams_and_events(runtime):
    stream = runtime.Stream()
    start, end = (runtime.Event(enable_timing=True) for _ in "se")
    start.record()
    with runtime.stream(stream):
        y = torch.ones(4, device="npu") * 2
    end.record()
    runtime.current_stream().wait_stream(stream)
    runtime.synchronize()
    assert start.elapsed_time(end) >= 0 and end.query() and y.sum().item() == 8


def test_memory_figures_and_running_out(runtime):
    gc.collect()
    runtime.empty_cache()
    before = runtime.memory_allocated()
    x = torch.ones(2**20, device="npu")
    assert runtime.memory_allocated() - before >= x.nbytes
    free, total = runtime.mem_get_info()
    assert free < total == 64 * 2**30
    del x
    assert runtime.memory_allocated() == before
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**38, dtype=torch.uint8, device="npu")


def test_generators_repeat_their_numbers(runtime):
    generator = torch.Generator("npu").manual_seed(5)
    first, second = (torch.randn(3, device="npu", generator=generator).cpu() for _ in "ab")
    again = torch.randn(3, device="npu", generator=generator.manual_seed(5)).cpu()
    assert torch.equal(first, again) and not torch.equal(first, second)
    runtime.manual_seed(3)
    default = torch.rand(3, device="npu").cpu()
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3, device="npu").cpu(), default)
    assert not torch.equal(first, torch.randn(3, generator=torch.Generator().manual_seed(5)))


def test_autocast():
    with torch.autocast("npu", dtype=torch.bfloat16):
        x = torch.ones(4, 4, device="npu")
        assert (x @ x).dtype == torch.bfloat16


def test_wide_floats_are_refused(npu):
    with pytest.raises(RuntimeError, match="float64 is not supported"):
        torch.zeros(3, dtype=torch.float64, device="npu")
    with pytest.raises(RuntimeError, match="float64 is not supported"):
        torch.empty(3, dtype=torch.float64, device="npu").add_(1)
    npu.strict = LENIENT
    assert torch.ones(3, dtype=torch.float64, device="npu").sum().item() == 3


SYNCS = {
    "item": (lambda x: x.sum().item(), "item"),
    "bool": (lambda x: bool(x.any()), "item"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "picked": (lambda x: x[x > 2], "nonzero"),
    "set": (lambda x: x.__setitem__(x > 2, 1.0), "nonzero"),
    "tolist": (lambda x: x.tolist(), "copy to the host"),
    "cpu": (lambda x: x.cpu(), "copy to the host"),
    "unique": (lambda x: x.unique(), "unique"),
    "equal": (lambda x: torch.equal(x, x), "equal"),
    "repeated": (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
}
NO_SYNCS = {
    "to the device": lambda x: torch.ones(3).to("npu"),
    "sliced": lambda x: x.__setitem__(slice(0, 2), 7.0),
    "indexed": lambda x: x[torch.tensor([1], device="npu")],
    "cast": lambda x: x.to(torch.bfloat16),
    "pinned": lambda x: torch.empty(6, pin_memory=True).copy_(x, non_blocking=True),
    "chosen": lambda x: torch.where(x > 2, x, 0.0).softmax(0).argmax(),
}


@pytest.mark.parametrize("name", SYNCS)
def test_waits_of_the_host_are_counted(npu, name):
    read, cause = SYNCS[name]
    x = torch.arange(6.0, device="npu")
    npu.log.clear()
    read(x)
    assert npu.log.host_syncs[cause] == 1


@pytest.mark.parametrize("name", NO_SYNCS)
def test_what_does_not_wait_is_not_counted(npu, name):
    x = torch.arange(6.0, device="npu")
    npu.log.clear()
    NO_SYNCS[name](x)
    assert not npu.log.host_syncs
