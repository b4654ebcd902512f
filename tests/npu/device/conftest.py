"""A simulated NPU below the real torch_npu, for the tests of this folder.

They need a virtual environment of their own, for an installed torch_npu changes `import torch`:
`make npu` makes it and runs them. Elsewhere they are skipped.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace

import pytest

from tests.npu.device.child import QUIET

INSTALLED = importlib.util.find_spec("torch_npu") is not None
if INSTALLED:  # before anything imports torch
    os.environ.update(QUIET)
    os.environ.setdefault("FAKE_NPU_COUNT", "2")


@pytest.fixture(scope="session")
def machine():
    """Starts torch_npu once for all tests of the process."""
    if not INSTALLED:
        pytest.skip("torch_npu is not installed; `make npu` runs these tests in .venv-npu")
    from tests.npu.simulator.tier1 import start

    return start()


@pytest.fixture(autouse=True)
def npu(machine):
    """The simulation with an empty log; how strict it is may be changed and is set back."""
    strict = replace(machine.strict)
    machine.log.clear()
    yield machine
    machine.strict = strict
