"""torch's function diverted: the same answers, and what cannot be said goes to torch as it was."""

import threading

import pytest
import torch
import torch.nn.functional as F

from mindsd.attention.cpu import Reference
from mindsd.attention.divert import Diversion
from mindsd.attention.registry import Registry


@pytest.fixture
def diversion():
    return Diversion(Registry([Reference()]))


def random(*shape):
    return torch.randn(shape)


ASKED = {
    "plain": ((2, 4, 6, 8), (2, 4, 6, 8), {}),
    "cross": ((2, 4, 6, 8), (2, 4, 3, 8), {}),
    "scale": ((2, 4, 6, 8), (2, 4, 6, 8), {"scale": 0.2}),
    "three dimensions": ((4, 6, 8), (4, 5, 8), {"attn_mask": random(4, 6, 5)}),
    "two dimensions": ((6, 8), (5, 8), {"attn_mask": random(6, 5) > 0}),
    "causal": ((1, 2, 6, 8), (1, 2, 6, 8), {"is_causal": True}),
    "causal, top-left": ((1, 2, 4, 8), (1, 2, 6, 8), {"is_causal": True}),
    "causal, more queries": ((1, 2, 6, 8), (1, 2, 4, 8), {"is_causal": True}),
    "grouped": ((1, 4, 6, 8), (1, 2, 6, 8), {"enable_gqa": True}),
    "a mask of three dimensions": ((2, 3, 6, 8), (2, 3, 5, 8), {"attn_mask": random(3, 6, 5)}),
}


@pytest.mark.parametrize("q, k, options", ASKED.values(), ids=ASKED)
def test_as_torch(diversion, q, k, options):
    q, k, v = random(*q), random(*k), random(*k)
    want = F.scaled_dot_product_attention(q, k, v, **options)
    got = diversion.run(F.scaled_dot_product_attention, q, key=k, value=v, **options)
    torch.testing.assert_close(got, want)
    assert diversion.calls == 1 and not diversion.passed


PASSED = {
    "gradients are asked for": ((1, 2, 4, 8), (1, 2, 4, 8), {}),
    "heads differ": ((1, 2, 4, 8), (1, 1, 4, 8), {}),
    "is_causal beside a mask": (
        (1, 2, 4, 8),
        (1, 2, 4, 8),
        {"attn_mask": random(4, 4), "is_causal": True},
    ),
    "batch sizes differ": ((2, 2, 4, 8), (1, 2, 4, 8), {}),
    "got q (1, 1, 2, 4, 8)": ((1, 1, 2, 4, 8), (1, 1, 2, 4, 8), {}),
}


@pytest.mark.parametrize("q, k, options", PASSED.values(), ids=PASSED)
def test_passed_to_torch_with_the_reason(request, diversion, q, k, options):
    q, k = random(*q), random(*k)
    reason = request.node.callspec.id
    q.requires_grad_(reason.startswith("gradients"))
    got = diversion.run(F.scaled_dot_product_attention, q, k, k, **options)
    assert torch.equal(got, F.scaled_dot_product_attention(q, k, k, **options))
    assert diversion.calls == 0
    assert [reason in passed for passed in diversion.passed] == [True]
    assert diversion.passed.total() == 1


def test_dropout_is_torchs(diversion):
    q = random(1, 2, 4, 8)
    torch.manual_seed(0)
    got = diversion.run(F.scaled_dot_product_attention, q, q, q, dropout_p=0.5)
    torch.manual_seed(0)
    assert torch.equal(got, F.scaled_dot_product_attention(q, q, q, dropout_p=0.5))
    assert diversion.passed == {"dropout is asked for": 1}


def test_a_wrong_call_raises_as_in_torch(diversion):
    q = random(1, 2, 4, 8)
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(q, q, q, attn_mask=random(9, 9))
    with pytest.raises(RuntimeError):
        diversion.run(F.scaled_dot_product_attention, q, q, q, attn_mask=random(9, 9))


def test_it_ends_with_the_function(diversion):
    q = random(1, 2, 4, 8)

    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        diversion.run(fail)
    F.scaled_dot_product_attention(q, q, q)
    assert diversion.calls == 0
    diversion.run(F.scaled_dot_product_attention, q, q, q)
    assert diversion.calls == 1


def test_the_outermost_answers(diversion):
    inner, q = Diversion(Registry()), random(1, 2, 4, 8)
    diversion.run(inner.run, F.scaled_dot_product_attention, q, q, q)
    assert (diversion.calls, inner.calls) == (1, 0)


def test_other_threads_do_not_notice(diversion):
    q = random(1, 2, 4, 8)

    def elsewhere():
        thread = threading.Thread(target=F.scaled_dot_product_attention, args=(q, q, q))
        thread.start()
        thread.join()

    diversion.run(elsewhere)
    assert diversion.calls == 0


def test_a_division_by_one_is_none(diversion):
    x, whole = torch.randn(3), torch.ones(3, dtype=torch.int64)

    def divided():
        return x / 1.0, x / 1, x / 2, whole / 1, 1 / x

    same, also, half, wide, other = diversion.run(divided)
    assert same is x and also is x
    assert torch.equal(half, x / 2) and torch.equal(other, 1 / x)
    assert wide.dtype == torch.float32
