"""Prepacked layers: the same products but for rounding, and taken off again without a trace."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from mindsd.packed_weight import PackedWeight
from mindsd.prepack import LINEAR, After, Prepacked, can_prepack, followed, weight_bytes


def model(dtype: torch.dtype = torch.float32, inference: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    with torch.inference_mode(inference):
        layers = nn.Linear(512, 640), nn.GELU(), nn.Linear(640, 520, bias=False), nn.Linear(520, 8)
        return nn.Sequential(*layers).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 512), (5, 512), (2, 70, 512), (512,), (0, 512)])
@torch.inference_mode()
def test_products_are_the_same_but_for_rounding(dtype, shape):
    own = model(dtype)
    given = torch.randn(shape).to(dtype)
    plain = own(given)
    prepacked = Prepacked(own)
    found = own(given)
    assert found.shape == plain.shape and found.dtype == dtype
    if found.numel():
        step = torch.finfo(dtype).eps * 8
        assert (found - plain).abs().max() <= step * plain.abs().max()
    prepacked.remove()
    assert torch.equal(own(given), plain) and "forward" not in vars(own[0])


def test_only_what_gains_is_prepacked():
    own = model()
    assert Prepacked(own).names == ["0", "2"]  # the last one has too few weights
    assert weight_bytes(own) == 4 * (512 * 640 + 640 * 520)
    assert not can_prepack(model(torch.float64)[0]) and not can_prepack(nn.Embedding(100, 100))


@torch.no_grad()
def test_a_weight_that_changes_is_followed():
    own: Any = model()
    Prepacked(own)
    given = torch.randn(3, 512)
    own[0].weight.mul_(2)
    assert torch.equal(own[0](given), nn.functional.linear(given, own[0].weight, own[0].bias))


def test_gradients_still_flow():
    own: Any = model()
    Prepacked(own)
    own(torch.randn(3, 512)).sum().backward()
    assert own[0].weight.grad is not None


@torch.inference_mode()
def test_weights_may_be_kept_packed_alone():
    own, given = model(), torch.randn(3, 512)
    plain, before = own(given), [own[0].weight, own[2].weight]
    with torch.inference_mode(False):
        with_shared = nn.Sequential(own, nn.ModuleDict({"same": nn.Linear(512, 640)}))
    with_shared[1]["same"].weight = own[0].weight  # pyright: ignore
    prepacked = Prepacked(with_shared, release=True)
    kinds = [isinstance(own[place].weight, PackedWeight) for place in (0, 2)]
    assert kinds == [False, True]  # the first is another layer's, too
    assert (own(given) - plain).abs().max() <= 1e-5
    assert not Prepacked(own, release=True).names  # once is enough
    prepacked.remove()
    assert [own[0].weight, own[2].weight] == before and torch.equal(own(given), plain)


@torch.inference_mode()
def test_an_activation_is_part_of_the_product():
    own, given = model(), torch.randn(3, 512)
    plain = nn.functional.gelu(own[0](given))
    prepacked = Prepacked(own)
    found = followed(own[0], given, After("gelu", "none"))
    assert found is not None and torch.allclose(found, plain, atol=1e-5)
    own[0].register_forward_hook(lambda *told: None)
    assert followed(own[0], given, After("gelu", "none")) is None
    prepacked.remove()
    assert followed(own[2], torch.randn(3, 640), After()) is None


def test_a_stray_call_leaves_the_weights_packed():
    own: Any = model()
    row = torch.randn(512)
    plain = own(row)
    prepacked = Prepacked(own, release=True)
    with torch.no_grad():
        assert torch.equal(own(row), plain)
        with pytest.raises(RuntimeError):
            own(row[None].double())
    given = torch.randn(3, 512, requires_grad=True)
    own(given).sum().backward()
    assert own[0].weight.grad.shape == (640, 512) and given.grad is not None
    for place in (0, 2):
        assert own[place].weight.store.packed is not None
    gradient = own[0].weight.grad
    prepacked.remove()
    (plain_gradient,) = torch.autograd.grad(own(given).sum(), own[0].weight)
    assert torch.allclose(gradient, plain_gradient, atol=1e-4)


class Tied(nn.Module):
    """A layer's weight, read under another name, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(512, 512)
        self.table = self.layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) @ self.table


@torch.no_grad()
def test_a_weight_that_has_another_name_is_not_released():
    own, x = Tied(), torch.randn(3, 512)
    plain = own(x)
    prepacked = Prepacked(own, release=True)
    assert prepacked.names == ["layer"] and not isinstance(own.layer.weight, PackedWeight)
    assert torch.allclose(own(x), plain, atol=1e-4)
    prepacked.remove()
    own, other = model(), nn.Linear(4, 4)
    other.weight = own[0].weight  # pyright: ignore[reportAttributeAccessIssue]
    Prepacked(own, release=True, beside=[other])
    assert [isinstance(own[place].weight, PackedWeight) for place in (0, 2)] == [False, True]


@pytest.mark.parametrize("made_in", [False, True])
def test_inference_mode_does_not_stick(made_in: bool):
    own: Any = model(inference=made_in)
    with torch.inference_mode():
        prepacked = Prepacked(own, release=True)
    assert isinstance(own[0].weight, PackedWeight) is not made_in
    given = torch.randn(3, 512)
    with torch.no_grad():
        found = own(given)
        with torch.inference_mode():
            prepacked.remove()
        assert torch.allclose(own(given), found, atol=1e-5)
    if not made_in:
        own(given).sum().backward()
        assert own[0].weight.grad is not None


def test_what_fails_half_way_leaves_no_trace():
    own: Any = model()
    seen: list[Any] = []

    def pack(module: Any) -> torch.Tensor:
        seen.append(module)
        if len(seen) == 2:
            raise MemoryError
        return LINEAR.pack(module)

    before = own[0].weight
    with pytest.raises(MemoryError):
        Prepacked(own, [replace(LINEAR, pack=pack)], release=True)
    assert own[0].weight is before and before.numel() and "forward" not in vars(own[0])


@torch.no_grad()
def test_a_strangers_function_that_carries_the_mark_is_not_passed_by():
    own: Any = model()
    Prepacked(own)
    inner = own[0].forward
    own[0].forward = functools.wraps(inner)(lambda input: inner(input) * 3)
    assert followed(own[0], torch.randn(3, 512), After("gelu", "none")) is None
