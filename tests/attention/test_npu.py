"""The NPU backend refuses by name and never by exception."""

import pytest
import torch

from mindsd.attention.contract import Call
from mindsd.attention.npu import Npu
from mindsd.errors import AttentionRefused


@pytest.mark.parametrize(
    "installed, words",
    [(False, "torch_npu is not installed"), (True, "tensors are on cpu, it computes on npu only")],
)
def test_refuses_by_name(installed, words):
    npu, q = Npu(), torch.zeros(1, 1, 2, 8)
    npu.installed = installed
    assert npu.refuses(Call(q, q, q)) == words
    with pytest.raises(AttentionRefused, match="npu: "):
        npu.run(Call(q, q, q))
