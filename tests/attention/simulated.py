"""An Ascend NPU of one chip, simulated for CPU tensors (tests/npu/simulator)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import torch

from mindsd.device import npu_chip
from tests.npu.simulator.simulation import Simulation
from tests.npu.simulator.tier0 import stand_in

SOCS = {
    "910B": "Ascend910B1",
    "910_93": "Ascend910_9391",
    "950": "Ascend950PR_9579",
    "310P": "Ascend310P3",
}


@contextmanager
def simulated(chip: str = "910B") -> Iterator[Simulation]:
    """torch_npu's operators for CPU tensors; everything asks this chip."""
    named = SimpleNamespace(get_device_name=lambda index=0: SOCS[chip])
    npu_chip.cache_clear()
    with stand_in(SOCS[chip]) as npu, patch.object(torch, "npu", named, create=True):
        yield npu
    npu_chip.cache_clear()
