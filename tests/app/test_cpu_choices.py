"""What is decided by the processor is told with its reason, also where there is no compiler."""

from __future__ import annotations

import pytest
import torch

from mindsd import allocator
from mindsd.app.cpu_choices import cpu_choices
from mindsd.attention import cpu_fused_kernels, decoder_product
from mindsd.device import find_device


def test_every_choice_has_its_reason():
    chosen = {row.what: row for row in cpu_choices(7)}
    assert all(row.choice and row.why for row in chosen.values())
    large = str(find_device("cpu").dtype).removeprefix("torch.")
    assert chosen["dtype of large models"].choice == large
    assert chosen["threads"].choice == str(torch.get_num_threads())
    assert "7 cores" in chosen["threads"].why
    assert f"attention in {large}" in chosen


def test_without_a_compiler_nothing_is_in_c(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(allocator, "why_absent", lambda: "no compiler")
    monkeypatch.setattr(cpu_fused_kernels, "why_absent", lambda: "no compiler")
    monkeypatch.setattr("mindsd.app.cpu_choices.library", lambda dtype: "no compiler")
    chosen = {row.what: row for row in cpu_choices(1)}
    for what in ("decoder layers, few tokens", "norms, activations"):
        assert (chosen[what].choice, chosen[what].why) == ("plain", "no compiler")
    own = chosen["memory of large tensors"]
    assert (own.choice, own.why) == ("given back", "no compiler")


def test_a_library_that_is_there_is_said_to_be():
    chosen = {row.what: row.choice for row in cpu_choices(1)}
    dtype = find_device("cpu").dtype
    there = not isinstance(decoder_product.library(dtype), str)
    assert chosen["decoder layers, few tokens"] == ("in C" if there else "plain")
