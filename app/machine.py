"""What this machine has, in plain values: for `mindsd doctor` and its JSON.

Imports torch, diffusers and transformers; the commands import this file when they run.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

import mindsd
from mindsd.device import KINDS, fast_dtype, find_device, why_absent
from mindsd.errors import ModelError
from mindsd.weights.embedded import embedded, embedded_language
from mindsd.weights.language import PACKAGES, find_language_model

LIBRARIES = ("torch", "diffusers", "transformers", "torch_npu", "xformers")


@dataclass(frozen=True)
class Seen:
    """One kind of device: what was found, or why there is none.

    Attributes:
        dtype: what "auto" picks there.
        free, total: bytes of memory.
        small_dtype: what "auto" picks there for a small model.
    """

    kind: str
    absent: str | None = None
    name: str = ""
    dtype: str = ""
    features: tuple[str, ...] = ()
    free: int = 0
    total: int = 0
    small_dtype: str = ""


@dataclass(frozen=True)
class Machine:
    """Versions (None: not installed), devices, processor cores, and the models that came along.

    Attributes:
        models: embedded image models and their folders.
        language_models: known ones and embedded ones, with their files or folders; None for one
            that is not installed.
    """

    versions: dict[str, str | None]
    system: str
    cores: int
    threads: int
    devices: list[Seen]
    auto: str
    models: dict[str, str]
    language_models: dict[str, str | None]

    @property
    def kinds(self) -> list[str]:
        """The kinds of devices that are there."""
        return [seen.kind for seen in self.devices if seen.absent is None]


def look() -> Machine:
    """Look at the machine this runs on."""
    versions: dict[str, str | None] = {
        "mindsd": mindsd.__version__,
        "python": platform.python_version(),
    }
    return Machine(
        versions | {name: _version(name) for name in LIBRARIES},
        platform.platform(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        torch.get_num_threads(),
        [_see(kind) for kind in KINDS],
        find_device().kind,
        {name: str(folder) for name, folder in embedded().items()},
        {name: _language(name) for name in PACKAGES}
        | {name: str(folder) for name, folder in embedded_language().items()},
    )


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _language(name: str) -> str | None:
    try:
        return str(find_language_model(name).path)
    except ModelError:
        return None


def _see(kind: str) -> Seen:
    absent = why_absent(kind)
    if absent is not None:
        return Seen(kind, absent)
    found = find_device(kind)
    dtype, small = (str(d).removeprefix("torch.") for d in (found.dtype, fast_dtype(found, 0)))
    return Seen(kind, None, found.name, dtype, found.features, found.free(), found.total, small)
