"""Prints the table: `python -m tests.npu.conformance` in .venv-npu, which `make npu` makes.

Every row was run when it is printed. The simulator is lenient here, for it shall show what the
hardware would compute rather than refuse it.
"""

from __future__ import annotations

import os

os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"  # the stand-in for CANN comes first

import importlib  # noqa: E402
import warnings  # noqa: E402
from dataclasses import replace  # noqa: E402

import torch  # noqa: E402

from tests.npu.simulator.checks import LENIENT  # noqa: E402
from tests.npu.simulator.tier1 import start  # noqa: E402

from .case import HEAD, row  # noqa: E402
from .peers import plugins, unpacked  # noqa: E402

PROJECTS = {
    "of_diffusers": (),
    "of_transformers": (),
    "of_cache_dit": (("cache-dit", "1.5.3"),),
    "of_mindiesd": (("einops", "0.8.2"), ("mindiesd", "3.1.0")),
}  # the wheels that each needs beside what .venv-npu has


def main() -> None:
    warnings.simplefilter("ignore")
    problems = {
        module: [problem for wheel in wheels if (problem := unpacked(*wheel))]
        for module, wheels in PROJECTS.items()
    }
    start(plugins()).strict = replace(LENIENT, float64=True)
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    left_out = []
    print(HEAD)
    for module in PROJECTS:
        if problems[module]:
            left_out += problems[module]
            continue
        try:
            cases = importlib.import_module(f".{module}", __package__).CASES
        except ImportError as error:
            left_out.append(f"{module}: {error}")
            continue
        for case in cases:
            print(row(case), flush=True)
    for reason in left_out:
        print(f"\nNot run: {reason}")


if __name__ == "__main__":
    main()
