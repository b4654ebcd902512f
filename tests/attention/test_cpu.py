"""The reference: bounded memory, exact float64, indifferent to autocast."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mindsd.attention.contract import Call
from mindsd.attention.cpu import Reference


class Largest(TorchDispatchMode):
    """Remembers the most numbers that one operation's result ever held."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.untyped_storage().nbytes() // out.itemsize)
        return out


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": (9, 9)}])
def test_memory_is_bounded(options):
    q = torch.randn(1, 2, 1500, 8)
    call = Call(q, q, q, **options)
    with Largest() as largest:
        out = Reference(scores=2**15).run(call)
    assert largest.numbers <= 2**15  # all scores at once would be 4.5 million
    torch.testing.assert_close(out, Reference().run(call))


def test_one_row_is_the_least():
    q, k = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 40, 8)
    call = Call(q, k, k)
    torch.testing.assert_close(Reference(scores=1).run(call), Reference().run(call))


def test_grouped_heads_copy_no_keys():
    q, k = torch.randn(1, 8, 4, 16), torch.randn(1, 1, 600, 16)
    with Largest() as largest:
        Reference(scores=8 * 600).run(Call(q, k, k))
    assert largest.numbers <= 600 * 16


def test_float64_stays_float64():
    q = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    want = (q @ q.mT / 8**0.5).softmax(-1) @ q
    got = Reference().run(Call(q, q, q))
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, want, rtol=0, atol=1e-14)


def test_autocast_changes_nothing():
    q = torch.randn(1, 2, 6, 8)
    call = Call(q, q, q)
    with torch.autocast("cpu", torch.bfloat16):
        inside = Reference().run(call)
    assert torch.equal(inside, Reference().run(call))


def test_nan_is_not_hidden():
    q = torch.randn(1, 1, 4, 8)
    q[0, 0, 2, 0] = float("nan")
    out = Reference().run(Call(q, torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 8)))
    assert out[0, 0, 2].isnan().all() and not out[0, 0, :2].isnan().any()
