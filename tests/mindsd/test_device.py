"""The machine is described as it is, and what it lacks is refused by name."""

import pytest
import torch

from mindsd import device as device_module
from mindsd.device import cpu_memory, find_device, why_absent
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
