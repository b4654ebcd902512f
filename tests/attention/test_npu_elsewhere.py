"""diffusers' layers on the CPU of a machine that has torch_npu."""

import pytest
import torch
from diffusers.models import activations, normalization
from diffusers.models.activations import GEGLU
from diffusers.models.normalization import RMSNorm

from mindsd.attention.npu_elsewhere import keep_off
from tests.attention.simulated import simulated


@pytest.fixture
def installed(monkeypatch):
    """As diffusers finds it where torch_npu is installed: its operators are for the NPU's tensors,
    here for none."""
    for module in (activations, normalization):
        monkeypatch.setattr(module, "is_torch_npu_available", lambda: True)


@pytest.mark.parametrize("kind", [lambda: GEGLU(8, 8), lambda: RMSNorm(8, 1e-6)])
def test_a_layer_on_the_cpu_computes_as_without_torch_npu(kind, request):
    torch.manual_seed(0)
    own, x = kind().eval(), torch.randn(2, 3, 8)
    expected = own(x)
    request.getfixturevalue("installed")
    with pytest.raises((NameError, ImportError)):  # torch_npu, which is not really here
        own(x)
    with simulated():
        wraps = keep_off(own)
    assert torch.equal(own(x), expected)
    for one in wraps:
        one.remove()
    assert "forward" not in vars(own)


def test_on_the_npu_it_keeps_its_operator(installed):
    torch.manual_seed(0)
    own, x = GEGLU(8, 8).eval(), torch.randn(2, 3, 8)
    with simulated():
        keep_off(own, devices=("cpu",))
    with pytest.raises(NameError):
        own(x)


def test_without_torch_npu_nothing_is_touched():
    own = torch.nn.ModuleList([GEGLU(8, 8), RMSNorm(8, 1e-6)])
    assert keep_off(own) == []
