"""A wrap goes round one instance's method and comes off without a trace."""

import functools
import inspect

import torch

from mindsd.wrap import wrap


def test_only_this_instance_is_touched_and_removal_leaves_nothing():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    x = torch.ones(1, 2)
    plain = one(x)
    taken = wrap(one, "forward", lambda original, x: original(x) + 1)
    assert torch.equal(one(x), plain + 1)
    assert "forward" not in vars(other)
    taken.remove()
    taken.remove()
    assert torch.equal(one(x), plain)
    assert "forward" not in vars(one)


def test_wraps_stack_and_come_off_in_any_order():
    module = torch.nn.Identity()
    inner = wrap(module, "forward", lambda original, x: original(x) + 1)
    outer = wrap(module, "forward", lambda original, x: original(x) * 10)
    x = torch.ones(1)
    assert module(x).item() == 20
    inner.remove()
    assert module(x).item() == 10
    outer.remove()
    assert "forward" not in vars(module)


def test_an_instance_attribute_that_lay_there_before_comes_back():
    module = torch.nn.Identity()

    def own(input):
        return input - 1

    module.forward = own
    with wrap(module, "forward", lambda original, x: original(x) * 2):
        assert module(torch.ones(1)).item() == 0
    assert vars(module)["forward"] is own


def test_a_strangers_hook_on_top_stays_and_the_wrap_below_becomes_transparent():
    module = torch.nn.Identity()
    below = wrap(module, "forward", lambda original, x: original(x) + 1)
    inner = module.forward
    # as accelerate puts its hooks:
    hook = functools.update_wrapper(lambda input: inner(input) * 10, inner)
    module.forward = hook
    below.remove()
    assert vars(module)["forward"] is hook
    assert module(torch.ones(1)).item() == 10


def test_the_signature_survives():
    module = torch.nn.Bilinear(1, 1, 1)
    before = inspect.signature(module.forward)
    with wrap(module, "forward", lambda original, *args: original(*args)):
        assert inspect.signature(module.forward) == before
