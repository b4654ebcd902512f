"""A packed weight is the plain one to all: read, written, copied, saved, moved, given back."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mindsd.packed_weight import PackedWeight, Released


def layer() -> tuple[nn.Linear, Tensor, Released]:
    """A layer whose weight is kept packed, and the weight."""
    torch.manual_seed(0)
    own = nn.Linear(64, 32)
    plain = own.weight.detach().clone()
    packed = torch.ops.mkldnn._reorder_linear_weight(own.weight.detach(), 8)
    return own, plain, Released(own, packed)


def test_reading_gives_the_weight_bit_for_bit_and_leaves_it_packed():
    own, plain, released = layer()
    weight = own.weight
    assert isinstance(weight, PackedWeight) and isinstance(weight, nn.Parameter)
    assert (weight.shape, weight.dtype, weight.is_meta) == (plain.shape, plain.dtype, False)
    assert torch.equal(weight, plain) and torch.equal(weight.double(), plain.double())
    assert torch.equal(own.state_dict()["weight"], plain)
    assert torch.equal(load(save(own.state_dict()))["weight"], plain)
    file = io.BytesIO()
    torch.save(own.state_dict(), file)
    file.seek(0)
    assert torch.equal(torch.load(file)["weight"], plain)
    own.to("cpu")
    copied = copy.deepcopy(own)
    assert type(copied.weight) is nn.Parameter and torch.equal(copied.weight, plain)
    assert released.packed is not None and "PackedWeight((32, 64)" in repr(weight)


def doubled(own: nn.Linear) -> None:
    own.weight.mul_(2)


def doubled_rows(own: nn.Linear) -> None:
    for row in own.weight:
        row.mul_(2)


def doubled_data(own: nn.Linear) -> None:
    own.weight.data *= 2


def exchanged_data(own: nn.Linear) -> None:
    own.weight.data = own.weight * 2


def loaded(own: nn.Linear) -> None:
    own.load_state_dict({"weight": own.weight * 2, "bias": own.bias})


@pytest.mark.parametrize("write", [doubled, doubled_rows, doubled_data, exchanged_data, loaded])
def test_what_is_written_is_in_the_weight_and_stays_when_it_is_restored(
    write: Callable[[nn.Linear], None],
):
    own, plain, released = layer()
    with torch.no_grad():
        write(own)
        assert released.packed is None
        assert torch.equal(own.weight, plain * 2)
        x = torch.ones(3, 64)
        assert torch.equal(own(x), nn.functional.linear(x, plain * 2, own.bias))
    released.restore()
    assert type(own.weight) is nn.Parameter and torch.equal(own.weight, plain * 2)


def test_a_model_may_change_its_dtype():
    own, plain, released = layer()
    own.to(torch.float64)
    assert own.weight.dtype == torch.float64 and own(torch.ones(1, 64).double()).dtype.itemsize == 8
    released.restore()
    assert torch.equal(own.weight, plain.double())


def test_gradients_reach_it():
    own, _, released = layer()
    own(torch.ones(3, 64)).sum().backward()
    assert own.weight.grad is not None and own.weight.grad.shape == (32, 64)
    assert released.packed is None


def test_the_very_parameter_comes_back_as_it_lay():
    conv = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)  # pyright: ignore
    own, plain = conv.weight, conv.weight.detach().clone()
    shape = [0, 0], [1, 1], [1, 1], 1
    packed = torch.ops.mkldnn._reorder_convolution_weight(own.detach(), *shape)
    released = Released(conv, packed)
    assert own.numel() == 0  # its memory is free
    released.restore()
    released.restore()
    assert conv.weight is own and torch.equal(own, plain)
    assert own.is_contiguous(memory_format=torch.channels_last)
    assert set(conv.state_dict()) == {"weight", "bias"}


def test_a_weight_that_was_exchanged_is_not_put_back():
    own, _, released = layer()
    own.weight = nn.Parameter(torch.zeros(32, 64))
    assert released.packed is None
    released.restore()
    assert not own.weight.any()


def test_its_memory_is_the_plain_weights():
    own, plain, released = layer()
    assert own.weight.untyped_storage().nbytes() == plain.nbytes and released.packed is None
    assert own.weight.data_ptr() == own.weight.data_ptr() != 0
    own, plain, released = layer()
    assert own.share_memory() is own and own.weight.is_shared()
    with torch.no_grad():
        own.weight.mul_(2)
    released.restore()
    assert own.weight.is_shared() and torch.equal(own.weight, plain * 2)


def test_a_state_dict_holds_copies():
    own, plain, released = layer()
    own.state_dict()["weight"].zero_()
    assert torch.equal(own.weight, plain) and released.packed is not None
