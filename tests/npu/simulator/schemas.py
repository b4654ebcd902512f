"""The schemas of torch_npu's operators, as texts and as definitions in plain torch.

schemas.txt holds 163 overloads that torch_npu 2.13.0 registers; 2.14.0 has the same.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch.library import Library

TEXT = Path(__file__).with_name("schemas.txt")


@cache
def schemas() -> dict[str, str]:
    """Full name with overload, as "npu::npu_format_cast.Tensor" -> the schema."""
    lines = TEXT.read_text().splitlines()
    return {line.split("(", 1)[0]: line for line in lines if line}


def define(library: Library) -> None:
    """Defines every schema of the library's namespace ("npu" or "atb")."""
    for name, schema in schemas().items():
        namespace, rest = schema.split("::", 1)
        if namespace == library.ns:
            assert name.startswith(namespace)
            library.define(rest, tags=(torch.Tag.pt2_compliant_tag,))
