"""Who attends over pages on which device, and why not another."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mindsd.app import page_cases
from mindsd.app.page_cases import explain_pages
from mindsd.attention.npu import Npu
from mindsd.attention.npu_paged import NpuPaged
from mindsd.attention.registry import Registry
from mindsd.device import Device
from mindsd.kvcache import pages
from tests.attention.simulated import simulated


def test_on_a_cpu_plain_operations_answer():
    (answer,) = explain_pages(["cpu"])
    assert (answer.case, answer.device, answer.backend) == ("text over pages", "cpu", "paged")
    assert answer.refused == {
        "npu pages": "pages are on cpu, it computes on npu only",
        "triton pages": "pages are on cpu, it computes on cuda only",
    }


@pytest.mark.parametrize(
    ("chip", "backend", "why"),
    [("910B", "npu pages", None), ("310P", "paged", "a 310P has no operator for pages")],
)
def test_on_an_npu(monkeypatch, chip, backend, why):
    """Simulated for CPU tensors, so the pages and the backend are told that they are an NPU's."""
    monkeypatch.setitem(page_cases.BLOCKS, "cpu", 128)
    kind = pages.NpuPages if why is None else pages.Pages
    store = partial(page_cases.PageStore, kind=lambda device: kind)
    monkeypatch.setattr(page_cases, "PageStore", store)
    here = Device("cpu", "simulated", torch.bfloat16, 2**30)  # whatever this machine is fast in
    monkeypatch.setattr(page_cases, "find_device", lambda kind: here)
    with simulated(chip):
        registry = Registry([Npu(("cpu",))], [NpuPaged(("cpu",))])
        (answer,) = explain_pages(["cpu"], registry)
    assert answer.backend == backend
    assert answer.refused == ({} if why is None else {"npu pages": why})
    assert answer.unasked == (["paged"] if why is None else [])
