"""Tier 0: torch_npu's operators on plain torch, for CPU tensors, without the torch_npu wheel.

    with stand_in("Ascend910B1") as npu:
        import torch_npu  # the stand-in module
        torch_npu.npu_rms_norm(x, weight)
        assert npu.log.ops() == ["npu_rms_norm"]

Tensors cannot lie on "npu" here. Code under test takes the device types that it computes on as an
argument and gets ("cpu",) from the tests. torch.npu stands there, too, but says that no device is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch.library import Library

from .checks import Strict
from .chip import CHIPS, DEFAULT
from .operators import OPERATORS
from .schemas import define, schemas
from .simulation import Operator, Simulation
from .waits import waits

VERSION = "2.13.0"


@contextmanager
def stand_in(soc: str = DEFAULT, strict: Strict | None = None) -> Iterator[Simulation]:
    """Registers the operators and puts a stand-in torch_npu into sys.modules; undoes both.

    Args:
        soc: the chip, one of `CHIPS`.
        strict: None is strict about everything.

    Yields:
        The simulation; its log also counts every wait of the host, of any tensor.
    """
    if "torch_npu" in sys.modules:
        raise RuntimeError("torch_npu is already imported; tier 0 needs an interpreter without it")
    simulation = Simulation(CHIPS[soc], strict or Strict())
    libraries = [Library(name, "DEF") for name in ("npu", "atb")]  # noqa: TOR901
    try:
        for library in libraries:
            define(library)
            _register(library, simulation)
        sys.modules["torch_npu"] = _module()
        with patch.object(torch, "npu", _devices(simulation), create=True), waits(simulation.log):
            yield simulation
    finally:
        sys.modules.pop("torch_npu", None)
        for library in libraries:
            library._destroy()


def _register(library: Library, simulation: Simulation) -> None:
    for full, operator in OPERATORS.items():
        namespace, name = full.split("::")
        if namespace == library.ns:
            packet = getattr(getattr(torch.ops, namespace), name)
            library.impl(name, _kernel(operator, packet.default._schema, simulation), "CPU")


def _kernel(operator: Operator, schema: Any, simulation: Simulation) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        return simulation.run(operator, schema, args, kwargs)

    return run


def _module() -> ModuleType:
    """A module whose attributes are the operators; others are missing, as a typing error is."""
    module = ModuleType("torch_npu")
    module.__spec__ = ModuleSpec("torch_npu", loader=None)
    module.__dict__["__version__"] = VERSION
    for full in schemas():
        namespace, name = full.split("::")
        base = name.split(".")[0]
        setattr(module, base, getattr(getattr(torch.ops, namespace), base))
    return module


def _devices(simulation: Simulation) -> ModuleType:
    """torch.npu, as far as it can be asked without a device."""
    module = ModuleType("torch.npu")
    module.__dict__.update(
        device_count=lambda: 0,
        is_available=lambda: False,
        is_bf16_supported=lambda: simulation.chip.has_bfloat16,
        get_device_name=lambda device=None: simulation.chip.soc,
    )
    return module
