"""The machine is described as it is, and what it lacks is refused by name."""

import sys
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from mindsd import device as device_module
from mindsd.device import cpu_memory, find_device, is_out_of_memory, npu_chip, why_absent
from mindsd.errors import RequestError


def test_the_cpu_is_always_there():
    device = find_device("cpu")
    assert device.kind == "cpu" and device.torch == torch.device("cpu")
    assert 0 < device.free() <= device.total


def test_auto_takes_what_works():
    assert why_absent(find_device("auto").kind) is None


def test_the_cpu_uses_bfloat16_only_where_it_computes_in_it():
    device = find_device("cpu")
    native = {"amx_bf16", "avx512_bf16"} & set(device.features)
    assert device.dtype == (torch.bfloat16 if native else torch.float32)


def test_unknown_and_absent_devices_are_refused():
    with pytest.raises(RequestError, match="unknown device 'tpu'; choose auto, npu, cuda, cpu"):
        find_device("tpu")
    for kind in ("npu", "cuda"):
        if why_absent(kind):
            with pytest.raises(RequestError, match=f"device '{kind}' is not usable here"):
                find_device(kind)


def test_memory_is_counted_in_bytes():
    total, free = cpu_memory()
    assert total > 2**28 and 0 < free <= total


def test_what_a_container_has_read_counts_as_free(tmp_path, monkeypatch):
    total = cpu_memory()[0]
    monkeypatch.setattr(device_module, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**30 - 2**20}\n")
    assert cpu_memory() == (min(total, 2**30), 2**20)
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**27}\nactive_file 7\n")
    assert cpu_memory() == (min(total, 2**30), 2**20 + 2**27)


def test_chips_are_known_by_their_family(monkeypatch):
    names = ["Ascend910B1", "Ascend910_9391", "Ascend950PR_9579", "Ascend310P3", "Ascend910A"]
    asked: list[int] = []

    def name_of(index):
        asked.append(index)
        return names[index]

    monkeypatch.setattr(torch, "npu", SimpleNamespace(get_device_name=name_of), raising=False)
    npu_chip.cache_clear()
    found = [npu_chip(index) for index in range(5)]
    assert found == ["910B", "910_93", "950", "310P", "Ascend910A"]
    assert npu_chip(0) == "910B" and asked == [0, 1, 2, 3, 4]  # once for each device
    npu_chip.cache_clear()


def test_a_torch_npu_without_its_libraries_is_a_reason(monkeypatch, tmp_path):
    (tmp_path / "torch_npu.py").write_text("raise ImportError('libascendcl.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    assert why_absent("npu") == (
        "torch_npu does not load (ImportError: libascendcl.so: cannot open); is CANN's set_env.sh "
        "sourced?"
    )
    with pytest.raises(RequestError, match="device 'npu' is not usable here: torch_npu does not"):
        find_device("npu")
    assert find_device("auto").kind != "npu"


def test_no_npu_is_a_reason(monkeypatch, tmp_path):
    (tmp_path / "torch_npu.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    npu = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    with patch.dict(sys.modules):
        reason = why_absent("npu")
    assert reason is not None and reason.startswith("torch_npu is installed but sees no NPU")


@pytest.mark.parametrize(
    "words", ["NPU out of memory. Tried to allocate 2.00 GiB", "can't allocate memory: you tried"]
)
def test_memory_that_ran_out_in_words(words):
    assert is_out_of_memory(RuntimeError(words)) and not is_out_of_memory(RuntimeError("memory"))
