"""Tier 1: the real torch_npu wheel over a stand-in CANN; tensors lie on "npu:0".

    simulation = start()  # once in a process, before anything imports torch_npu
    x = torch.randn(4, 4).npu()

torch_npu's own schemas, Meta kernels and attention dispatch run. The chip is FAKE_NPU_SOC, the
number of devices FAKE_NPU_COUNT, both read when torch_npu starts.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from .arguments import Arguments
from .build import LIBRARIES, built
from .chip import CHIPS, DEFAULT
from .host import KEY, NPU, OnHost, route, runtime
from .operators import OPERATORS
from .simulation import Operator, Simulation

_STARTED: list[Simulation] = []
_KEPT: list[Library] = []  # a registration lasts as long as its library


def load_cann(plugins: tuple[Path, ...] = ()) -> None:
    """Loads the stand-in libraries; torch_npu's loader then finds them by their names."""
    folder = built(plugins)
    for name in LIBRARIES:
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


def start(plugins: tuple[Path, ...] = ()) -> Simulation:
    """Imports torch_npu and routes its kernels to the host; for the rest of this process.

    Later calls give the same simulation.

    Args:
        plugins: other shared objects that link against CANN and will be loaded.

    Raises:
        RuntimeError: torch_npu was imported before, or cannot be.
    """
    if _STARTED:
        return _STARTED[0]
    if "torch_npu" in sys.modules:
        raise RuntimeError("torch_npu is already imported, with no stand-in for CANN below it")
    os.environ["TASK_QUEUE_ENABLE"] = "0"  # no launching thread: program order
    load_cann(plugins)
    with redirect_stdout(sys.stderr):  # it warns there
        importlib.import_module("torch_npu")

    soc = os.environ.get("FAKE_NPU_SOC", DEFAULT)
    simulation = Simulation(CHIPS[soc])
    on_host = OnHost(simulation)
    runtime().set_device(0)
    aten = Library("aten", "IMPL")  # noqa: TOR901
    route(aten, on_host)
    _KEPT.append(aten)
    for full, operator in OPERATORS.items():
        namespace, name = full.split("::")
        library = Library(namespace, "IMPL")  # noqa: TOR901
        schema = getattr(getattr(torch.ops, namespace), name).default._schema
        kernel = _kernel(operator, schema, simulation, on_host)
        library.impl(name, kernel, KEY, allow_override=True)
        _KEPT.append(library)
    _STARTED.append(simulation)
    return simulation


def _kernel(operator: Operator, schema: Any, simulation: Simulation, on_host: OnHost) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        for name, given in Arguments(schema, args, kwargs).as_dict().items():
            if name.startswith("actual_seq") and isinstance(given, Tensor):
                simulation.log.host_syncs["lengths on the device"] += given.device.type == NPU

        def below(*host_args: Any, **host_kwargs: Any) -> Any:
            return simulation.run(operator, schema, host_args, host_kwargs)

        return on_host(below, args, kwargs)

    return run
