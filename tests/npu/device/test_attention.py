"""mindsd's own backend on the simulated device: every call of the contract's table.

Either one of torch_npu's fused operators computes it right, without a wait for the device, or the
backend refuses it by name.
"""

import pytest
import torch

from mindsd.attention.npu import Npu
from mindsd.attention.registry import Registry
from tests.attention.conftest import CASES, naive, table

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(scope="module")
def backend(machine):
    return Npu()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_the_table(npu, backend, case, dtype):
    call = table(dtype, "npu")[case]()
    if (reason := backend.refuses(call)) is not None:
        pytest.skip(f"refused: {reason}")
    npu.log.clear()
    out = backend.run(call)
    assert npu.log.ops(), "no fused operator was called"
    assert not npu.log.host_syncs
    assert out.device == call.q.device and out.dtype == dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(out.cpu().double(), naive(call), rtol=tolerance, atol=tolerance)


def test_the_registry_chooses_it(npu):
    call = table(torch.bfloat16, "npu")["causal"]()
    assert Registry().choose(call).name == "npu"
