"""What this machine has: Ascend NPU, NVIDIA GPU or plain CPU; dtypes that are fast, free memory."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from mindsd.errors import RequestError

KINDS = ("npu", "cuda", "cpu")
NPU_CHIPS = ("910B", "910_93", "950")  # with all operators of attention and pages
NPU_SMALL = "310P"
OUT_OF_MEMORY = ("can't allocate memory", "NPU out of memory")
CGROUP = Path("/sys/fs/cgroup")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SMALL_MODEL = 256 * 2**20  # bytes
CPU_FEATURES = (
    *("avx2", "avx512f", "avx512vbmi", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_bf16", "amx_int8"),
)


@dataclass(frozen=True)
class Device:
    """A place where tensors live, as found on this machine.

    Attributes:
        kind: one of `KINDS`.
        name: the maker's name of it, for people.
        dtype: the fastest floating-point type that keeps image quality.
        total: bytes of memory in all.
        features: instruction sets or capabilities that decide what is fast.
    """

    kind: str
    name: str
    dtype: torch.dtype
    total: int
    features: tuple[str, ...] = field(default=())

    @property
    def torch(self) -> torch.device:
        return torch.device(self.kind)

    def free(self) -> int:
        """Bytes that can still be allocated, as the driver or the kernel says."""
        if self.kind == "cuda":
            return torch.cuda.mem_get_info()[0]
        if self.kind == "npu":
            return torch.npu.mem_get_info()[0]  # type: ignore[attr-defined]
        return cpu_memory()[1]


def find_device(kind: str = "auto") -> Device:
    """The named device, or with "auto" the fastest one that this machine has.

    Raises:
        RequestError: the name is unknown, or the machine does not have it.
    """
    if kind not in ("auto", *KINDS):
        raise RequestError(f"unknown device {kind!r}; choose auto, {', '.join(KINDS)}")
    for candidate in KINDS if kind == "auto" else (kind,):
        reason = why_absent(candidate)
        if reason is None:
            return _describe(candidate)
        if kind != "auto":
            raise RequestError(f"device {kind!r} is not usable here: {reason}")
    raise AssertionError("a CPU is always there")


def why_absent(kind: str) -> str | None:
    """Why this machine cannot use a kind of device, or None when it can."""
    if kind == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if kind == "npu":
        if importlib.util.find_spec("torch_npu") is None:
            return "torch_npu is not installed (pip install 'mindsd[npu]' on an Ascend machine)"
        try:
            importlib.import_module("torch_npu")  # registers torch.npu
        except Exception as error:  # whatever a library that misses CANN raises
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            return f"torch_npu does not load ({reason}); is CANN's set_env.sh sourced?"
        if not torch.npu.is_available():  # type: ignore[attr-defined]
            return "torch_npu is installed but sees no NPU (is CANN's set_env.sh sourced?)"
    return None


@lru_cache
def npu_chip(index: int = 0) -> str:
    """The family of an NPU, "910B", "910_93", "950" or "310P", else its whole name.

    They have different operators; CANN says which they are by a name such as Ascend910B1.
    """
    name: str = torch.npu.get_device_name(index)  # type: ignore[attr-defined]
    return next(
        (chip for chip in (*NPU_CHIPS, NPU_SMALL) if name.startswith(f"Ascend{chip}")), name
    )


def _describe(kind: str) -> Device:
    if kind == "cuda":
        facts = torch.cuda.get_device_properties(0)
        capability = f"sm_{facts.major}{facts.minor}"
        dtype = torch.bfloat16 if facts.major >= 8 else torch.float16
        return Device("cuda", facts.name, dtype, facts.total_memory, (capability,))
    if kind == "npu":
        total = torch.npu.mem_get_info()[1]  # type: ignore[attr-defined]
        name, chip = torch.npu.get_device_name(0), npu_chip()  # type: ignore[attr-defined]
        dtype = torch.float16 if chip == NPU_SMALL else torch.bfloat16
        return Device("npu", name, dtype, total, (chip,))
    name, features = cpu_facts()
    fast = torch.bfloat16 if {"amx_bf16", "avx512_bf16"} & set(features) else torch.float32
    return Device("cpu", name, fast, cpu_memory()[0], features)


def fast_dtype(place: Device, weight: int, small: int = SMALL_MODEL) -> torch.dtype:
    """What a model of so many bytes of weights runs fast in there.

    On a CPU small models stay in float32: their layers are too narrow for what bfloat16 saves to
    pay for the conversions round them (tiny-sd took 1.8 to 2.3 times as long on AVX512-BF16).

    Args:
        small: fewer bytes than these are a small model.
    """
    narrow = place.kind == "cpu" and weight < small
    return torch.float32 if narrow else place.dtype


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error says that memory ran out (some allocators say it in words only)."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in OUT_OF_MEMORY)


def free_cached() -> None:
    """Give the driver back what torch's allocators of accelerators hold and nobody uses."""
    for kind in ("cuda", "npu"):
        runtime = getattr(torch, kind, None)  # torch.npu is there where torch_npu was imported
        if runtime is not None and runtime.is_available():
            runtime.empty_cache()


@lru_cache(maxsize=1)
def cpu_facts() -> tuple[str, tuple[str, ...]]:
    """The processor's name and those of its instruction sets that decide what is fast."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU", ()
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return facts.get("model name", "CPU"), tuple(name for name in CPU_FEATURES if name in flags)


def cpu_memory() -> tuple[int, int]:
    """Total and available bytes of main memory, within a container's limit where there is one."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total, free = facts["MemTotal"], facts["MemAvailable"]
    except (OSError, KeyError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        return min(total, limit), min(free, limit - used + _page_cache())
    return total, free


def _cgroup(name: str) -> int | None:
    try:
        return int((CGROUP / name).read_text())
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return None


def _page_cache() -> int:
    """Bytes of files that the container has read; the kernel drops them when memory is needed."""
    try:
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, StopIteration):
        return 0
