"""A twin has the same weights and parts, and none of the functions laid round them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mindsd.attention.twin import Twin, structure, why_no_twin
from mindsd.wrap import wrap


def block(width: int = 8) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 8)).eval()


@torch.no_grad()
def test_it_computes_what_the_module_computes_without_its_wraps():
    own, x = block(), torch.randn(3, 8)
    wanted = own(x)
    wrap(own[1], "forward", lambda original, x: original(x) + 1)
    wrap(own, "forward", lambda original, x: original(x) * 2)
    twin = Twin(own)
    assert torch.equal(twin.bare(x), wanted) and not torch.equal(own(x), wanted)
    assert not any("forward" in vars(part) for part in twin.bare.modules())


@torch.no_grad()
def test_weights_that_are_exchanged_are_its_own():
    own, x = block(), torch.randn(3, 8)
    twin = Twin(own)
    own[0].weight = nn.Parameter(torch.zeros(8, 8))
    own[2].bias.add_(3)
    assert torch.equal(twin.bare(x), own(x)) and twin.holds()


def test_it_knows_when_the_module_has_other_parts():
    own = block()
    twin = Twin(own)
    before = own[1]
    own[1] = nn.ReLU()
    assert not twin.holds()
    own[1] = before
    assert twin.holds()


@torch.no_grad()
def test_a_parameter_of_its_own_follows_nobody():
    own = block()
    twin = Twin(own)
    part: Any = twin.bare[0]  # pyright: ignore[reportIndexIssue]
    twin.part_from(part, "weight")
    part.weight = nn.Parameter(torch.zeros(8, 8))
    assert own[0].weight.any() and twin.holds()
    own[0].weight.mul_(2)
    assert not twin.holds()
    again = Twin(own)
    again.part_from(again.bare[0], "weight")  # pyright: ignore[reportIndexIssue]
    own[0].weight = nn.Parameter(torch.zeros(8, 8))
    assert not again.holds()


def test_a_part_that_stands_twice_is_one():
    own = nn.ModuleDict({"a": (part := nn.Linear(4, 4)), "b": part})
    bare: Any = Twin(own).bare
    assert bare["a"] is bare["b"] and bare["a"] is not part


def test_what_others_run_has_none():
    assert why_no_twin(block()) is None
    strange = block()
    strange[0].forward = lambda x: x
    assert why_no_twin(strange) == "is run by somebody else already"
    compiled = block()
    compiled[0].compile(backend="eager")
    assert why_no_twin(compiled) == "is run by somebody else already"


def test_structures_are_equal_where_weights_alone_differ():
    assert structure(block()) == structure(block())
    other = block()
    nn.init.zeros_(other[0].weight)
    assert structure(other) == structure(block())
    for different in (block(16), block().half(), block().train(), block()[:2]):
        assert structure(different) != structure(block())


@torch.no_grad()
def test_hooks_inside_are_the_modules_own_matter():
    own = block()
    twin = Twin(own)
    handle = own[0].register_forward_hook(lambda module, given, found: found * 0)
    assert not twin.holds()
    handle.remove()
    assert twin.holds()
    own.register_forward_pre_hook(lambda module, given: None)  # runs when the block is called
    assert twin.holds()


def test_another_parameter_of_a_part_with_one_of_its_own():
    own = block()
    twin = Twin(own)
    twin.part_from(twin.bare[0], "weight")  # pyright: ignore[reportIndexIssue]
    assert twin.holds()
    own[0].bias = nn.Parameter(torch.ones(8))
    assert not twin.holds()
