"""A simulated NPU for the tests of this folder; tests/npu/device has one of its own."""

from __future__ import annotations

import pytest


@pytest.fixture
def npu():
    """A strict Ascend910B1 on plain torch; its log is empty."""
    from tests.npu.simulator.tier0 import stand_in

    with stand_in() as simulation:
        yield simulation
