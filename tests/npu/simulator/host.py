"""aten on a simulated NPU: device memory is host memory, so the CPU's kernels compute on it.

Every aten operator that torch_npu registers is replaced by one that lays CPU tensors over the same
bytes, calls the CPU's kernel and gives back device tensors. Allocation, views and storage stay
torch_npu's own, and so does its choice of an attention kernel.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from .simulation import Simulation
from .waits import cause

NPU = "npu"
KEY = "PrivateUse1"
# torch_npu's own: allocation, views, storage and formats; and sdpa, whose dispatch is tested.
KEPT = {
    "_npu_format_cast", "_pin_memory", "_reshape_alias", "_to_copy", "as_strided",
    "copy_memory_", "empty.memory_format", "empty_like", "empty_strided", "empty_with_format",
    "empty_with_swapped_memory", "get_npu_format", "get_storage_size", "is_pinned", "is_set_to",
    "new_empty_strided", "record_stream", "resize_", "resize_as_", "set_",
    "scaled_dot_product_attention", "set_.source_Storage", "set_.source_Storage_storage_offset",
    "set_.source_Tensor", "squeeze", "squeeze.dim", "unfold", "unsafe_empty_with_format",
    "unsqueeze", "view", "view_as_complex", "view_as_real",
}  # fmt: skip
DRAW = 8  # by how much one draw moves a generator's offset
WIDE = (torch.float64, torch.complex128)


def runtime() -> Any:
    """torch.npu, which torch_npu adds."""
    return torch.get_device_module(NPU)


def over(tensor: Tensor) -> Tensor:
    """A CPU tensor over the same bytes as a device tensor."""
    if tensor.numel() == 0:
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
    storage = tensor.untyped_storage()
    buffer = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    flat = torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()
    bare = torch.empty(0, dtype=tensor.dtype)
    bare.set_(flat, tensor.storage_offset(), tensor.size(), tensor.stride())
    bare = bare.conj() if tensor.is_conj() else bare
    return torch._neg_view(bare) if tensor.is_neg() else bare


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A device tensor with a CPU tensor's values and strides."""
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.numel() and any(s == 0 for s in tensor.stride()):
        tensor = tensor.contiguous()
    size, stride = tensor.size(), tensor.stride()
    made = torch.empty_strided(size, stride, dtype=tensor.dtype, device=device)
    if tensor.numel():
        over(made).copy_(tensor)
    return made


class OnHost:
    """Runs functions of CPU tensors for device tensors.

    Args:
        simulation: gets the log; decides whether float64 may lie on the device.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    def __call__(self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """The function's results; those that are arguments are the caller's own tensors."""
        known: dict[int, tuple[Tensor, Tensor]] = {}
        devices: list[torch.device] = []

        def down(x: Any) -> Any:
            if isinstance(x, Tensor) and x.device.type == NPU:
                self._check(x.dtype)
                below = over(x)
                known[id(below)] = below, x
                devices.append(x.device)
                return below
            if isinstance(x, torch.device) and x.type == NPU:
                devices.append(x)
                return torch.device("cpu")
            if isinstance(x, torch.Generator) and x.device.type == NPU:
                return drawn_from(x)
            return type(x)(map(down, x)) if isinstance(x, list | tuple) else x

        below = [down(x) for x in args]
        named = {name: down(x) for name, x in kwargs.items()}
        if "device" in named and named["device"] is None:
            named["device"] = torch.device("cpu")
        results = function(*below, **named)
        where = devices[0] if devices else torch.device(NPU, runtime().current_device())

        def up(x: Any) -> Any:
            if isinstance(x, Tensor):
                return self._lifted(x, known, where)
            return type(x)(map(up, x)) if isinstance(x, list | tuple) else x

        return up(results)

    def _lifted(
        self, result: Tensor, known: dict[int, tuple[Tensor, Tensor]], where: torch.device
    ) -> Tensor:
        if id(result) in known:
            _, own = known[id(result)]
            if own.shape != result.shape:  # an out= argument that was resized
                own.resize_(result.shape)
                over(own).copy_(result)
            return own
        self._check(result.dtype)
        return to_device(result, where)

    def _check(self, dtype: torch.dtype) -> None:
        if self.simulation.strict.float64 and dtype in WIDE:
            raise RuntimeError(
                f"call aclnnInplaceCopy failed, detail:EZ1001: {dtype} is not supported by the NPU"
            )


def drawn_from(own: Any) -> torch.Generator:
    """A host generator for one draw from a device generator, whose offset moves on.

    Numbers differ from those of a host generator with the same seed, as on hardware.
    """
    offset = own.get_offset()
    own.set_offset(offset + DRAW)
    return torch.Generator().manual_seed((own.initial_seed() * 1000003 + offset) % 2**63)


def default_generator(args: Any, device: Any) -> Any:
    """The generator of the device where an operator without one draws."""
    tensors = (x.device for x in args if isinstance(x, Tensor))
    where = torch.device(device) if device is not None else next(tensors, torch.device(NPU))
    index = runtime().current_device() if where.index is None else where.index
    return runtime().default_generators[index]


def route(library: Library, on_host: OnHost) -> list[str]:
    """Registers CPU kernels for every aten operator of torch_npu; returns those left out."""
    left_out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each replaces a kernel
        for full in torch._C._dispatch_get_registrations_for_dispatch_key(KEY):
            namespace, name = full.split("::")
            base, _, overload = name.partition(".")
            if namespace != "aten" or name in KEPT or "npu" in base:
                continue
            packet = getattr(torch.ops.aten, base, None)
            if packet is None or (overload or "default") not in packet.overloads():
                left_out.append(full)
                continue
            operator = getattr(packet, overload or "default")
            library.impl(name, _kernel(operator, on_host), KEY, allow_override=True)
    return left_out


def _kernel(operator: Any, on_host: OnHost) -> Callable[..., Any]:
    log, name = on_host.simulation.log, operator.name()
    if name == "aten::copy_":
        return _copying(on_host)

    takes_generator = any(a.name == "generator" for a in operator._schema.arguments)
    draws = torch.Tag.nondeterministic_seeded in operator.tags and not takes_generator

    def run(*args: Any, **kwargs: Any) -> Any:
        log.kernels[name] += 1
        if found := cause(name, args, kwargs):
            log.host_syncs[found] += 1
        if takes_generator and kwargs.get("generator") is None:
            kwargs["generator"] = default_generator(args, kwargs.get("device"))
        if not draws:
            return on_host(operator, args, kwargs)
        with torch.random.fork_rng(devices=[]):
            own = drawn_from(default_generator(args, kwargs.get("device")))
            torch.manual_seed(own.initial_seed())
            return on_host(operator, args, kwargs)

    return run


def _copying(on_host: OnHost) -> Callable[..., Tensor]:
    """copy_ between host and device, either way; a copy to the host waits, unless it may not."""
    log = on_host.simulation.log

    def copy(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        log.kernels["aten::copy_"] += 1
        to_host = self.device.type != NPU
        if to_host and not (non_blocking and self.is_pinned()):
            log.host_syncs["copy to the host"] += 1
        if not to_host:
            on_host._check(self.dtype)
        own = self if to_host else over(self)
        own.copy_(over(source) if source.device.type == NPU else source)
        return self

    return copy
