"""What a call hides, in an NPU's words: polarity, shapes, modes, and what is remembered."""

import math

import pytest
import torch

from mindsd.attention.contract import Call
from mindsd.attention.mask import full_mask
from mindsd.attention.npu_mask import (
    BAND,
    CAUSAL,
    CORRECTED,
    FAR,
    WHOLE,
    MaskMemory,
    any_blind,
    hidden,
    triangle,
)


def asked(tq=6, tk=9, batch=2, heads=4, dtype=torch.float16, **options):
    def tensor(n):
        return torch.zeros(batch, heads, n, 16, dtype=dtype)

    return hidden(Call(tensor(tq), tensor(tk), tensor(tk), **options), MaskMemory())


@pytest.mark.parametrize(
    "shape, full",
    [
        ((6, 9), (1, 1, 6, 9)),
        ((9,), (1, 1, 6, 9)),
        ((2, 1, 1, 9), (2, 1, 6, 9)),
        ((2, 1, 6, 1), (2, 1, 6, 9)),
        ((1, 4, 6, 9), (2, 4, 6, 9)),  # heads only with all of the batch
        ((2, 4, 1, 9), (2, 4, 6, 9)),
    ],
)
def test_a_bool_mask_is_turned_round_and_never_broadcast_over_queries(shape, full):
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.4
    found = asked(mask=keep)
    assert found.drop is not None and found.drop.dtype == torch.bool
    assert found.drop.shape == full and found.drop.is_contiguous()
    assert torch.equal(found.drop, ~keep.expand(full))
    assert (found.mode, found.bias, found.precise) == (WHOLE, None, CORRECTED)
    assert found.before == found.after == FAR  # any number of keys


def test_an_additive_mask_is_what_it_forbids_and_a_bias():
    mask = torch.tensor([0.0, -math.inf, -3.5, -60000.0, 0, 0, 0, 0, -math.inf]).half()
    found = asked(mask=mask.view(1, 1, 1, 9))
    assert found.drop is not None and found.bias is not None
    assert found.bias.shape == (2, 4, 1, 9) and found.bias.dtype == torch.float16
    assert found.bias.isfinite().all() and found.bias[0, 0, 0, 2:4].tolist() == [-3.5, -60000.0]
    assert found.drop.shape == (1, 1, 6, 9)
    assert torch.equal(found.drop[0, 0], (mask == -math.inf).expand(6, 9))


@pytest.mark.parametrize(
    "shape, full",
    [((6, 9), (1, 4, 6, 9)), ((2, 1, 6, 9), (2, 4, 6, 9)), ((1, 4, 6, 1), (1, 4, 6, 9))],
)
def test_a_bias_has_all_heads(shape, full):
    bias = asked(mask=torch.zeros(shape, dtype=torch.float16)).bias
    assert bias is not None and bias.shape == full and bias.is_contiguous()


def test_causality_and_windows_are_modes_of_one_triangle():
    causal = asked(causal=True)
    assert (causal.mode, causal.precise) == (CAUSAL, 0)
    assert causal.drop is triangle(torch.device("cpu"))
    assert torch.equal(triangle(torch.device("cpu")), torch.ones(2048, 2048).triu(1).bool())
    band = asked(window=(5, 2))
    assert (band.mode, band.before, band.after) == (BAND, 5, 2) and band.drop is causal.drop
    left = asked(window=(5, -1))
    assert (left.mode, left.before, left.after) == (BAND, 5, FAR)
    both = asked(window=(5, 2), causal=True)
    assert (both.mode, both.before, both.after) == (BAND, 5, 0)
    assert asked(window=(-1, -1)).drop is None


def test_with_a_mask_causality_and_window_are_in_it():
    keep = torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(0)) > 0.4
    call = Call(*(torch.zeros(2, 4, n, 16) for n in (6, 9, 9)), mask=keep, causal=True)
    found = hidden(call, MaskMemory())
    seen = full_mask(call)
    assert found.mode == WHOLE and found.drop is not None and seen is not None
    assert torch.equal(found.drop, ~seen)


@pytest.mark.parametrize("tq, tk, blind", [(9, 5, True), (5, 9, False), (9, 9, False)])
def test_rows_that_see_nothing_ask_for_the_correction(tq, tk, blind):
    assert asked(tq, tk, causal=True).precise == (CORRECTED if blind else 0)
    assert any_blind((3, 0), tq, tk) is blind
    assert any_blind((-1, 4), tq, tk) is False  # 4 to the right is enough here
    assert any_blind((0, 3), tq, tk) is blind
    assert any_blind((-1, -1), tq, 0) and not any_blind((-1, -1), 0, 0)


class Counted:
    def __init__(self):
        self.made = 0

    def __call__(self):
        self.made += 1
        return self.made


def test_a_mask_is_normalised_once_until_it_changes():
    memory, make, mask = MaskMemory(), Counted(), torch.ones(3, 4, dtype=torch.bool)
    assert [memory.of(mask, "a", make) for _ in range(3)] == [1, 1, 1]
    assert memory.of(mask, "b", make) == 2  # for another call
    view = mask.view(1, 1, 3, 4)  # what a Call makes of fewer dimensions
    assert memory.of(view, "b", make) == memory.of(mask.view(1, 1, 3, 4), "b", make) == 3
    mask[0, 0] = False
    assert memory.of(view, "b", make) == 4
    with torch.inference_mode():
        mask[0, 0] = True
    assert memory.of(view, "b", make) == 5
    assert memory.of(mask[:2].view(1, 1, 2, 4), "b", make) == 6


def test_what_counts_no_changes_is_not_remembered():
    memory, make = MaskMemory(), Counted()
    with torch.inference_mode():
        mask = torch.ones(3, 4, dtype=torch.bool)
        assert [memory.of(mask, "a", make) for _ in range(2)] == [1, 2]


def test_a_mask_that_dies_is_forgotten():
    memory, mask = MaskMemory(), torch.ones(3, 4, dtype=torch.bool)
    memory.of(mask, "a", lambda: torch.zeros(1))
    assert len(memory._made) == 1
    del mask
    assert len(memory._made) == 0
