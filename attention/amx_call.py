"""A call in the words of amx.c: its library, a C structure, and memory to work in."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from mindsd.native import Source, address, load, threads

from .contract import Call, Varlen

EXTENSIONS = (
    *("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512bf16", "avx512vbmi"),
    *("fma", "bmi2", "amx-tile", "amx-bf16"),
)
SOURCE = Source(
    Path(__file__).with_name("amx.c"),
    needs=("amx_bf16", "avx512_bf16"),  # the rest comes with them, or amx_prepare says so
    flags=tuple(f"-m{name}" for name in EXTENSIONS),
)
KINDS = {None: 0, torch.bool: 1, torch.bfloat16: 2, torch.float32: 3}  # of masks
LEFT_OUT = 2  # the status of what is not to be looked at; 0 of what was answered
FAR = 2**40  # tokens: no window is wider
HUGE_PAGE = 2**21  # bytes


@lru_cache(maxsize=1)
def amx_library() -> ctypes.CDLL | str:
    """The library, allowed to use tiles, or why there is none."""
    library = load(SOURCE)
    if isinstance(library, str):
        return library
    library.amx_room.restype = ctypes.c_int64
    library.amx_attend.restype = None
    if not library.amx_prepare():
        return "this system does not let a program use AMX, or hides AVX512-VBMI"
    return library


def amx_attend(call: Call, out: Tensor, status: Sequence[int]) -> list[int]:
    """Fills `out` [B, H, Tq, Dv] and gives a status for each batch entry or packed sequence.

    Where one is not 0, out of range or left out, nothing was filled in that can be used.

    Args:
        status: LEFT_OUT or 0 for each.
    """
    library = amx_library()
    assert isinstance(library, ctypes.CDLL)
    q, k, v = (_in_rows(tensor) for tensor in (call.q, call.k, call.v))
    mask, told = _whole_mask(call), (ctypes.c_uint8 * len(status))(*status)
    asked = _Asked(
        *map(address, (q, k, v, out, mask)),
        *_bounds(call.varlen),
        told,
        None,
        len(told),
        *(q.shape[1], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3]),
        *(tensor.stride()[:3] for tensor in (q, k, v, out)),
        (0, 0, 0) if mask is None else mask.stride()[:3],
        KINDS[None if mask is None else mask.dtype],
        *(min(side, FAR) for side in call.band),
        *(threads(), call.scaling),
    )
    asked.room = _room.of(library.amx_room(ctypes.byref(asked)))
    library.amx_attend(ctypes.byref(asked))
    return list(told)


class _Asked(ctypes.Structure):
    """`Call` of amx.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "mask")),
        *((name, ctypes.POINTER(ctypes.c_int64)) for name in ("q_bounds", "k_bounds")),
        ("status", ctypes.POINTER(ctypes.c_uint8)),
        ("room", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("items", "heads", "kv_heads", "queries", "keys")),
        *((name, ctypes.c_int64) for name in ("dim", "value_dim")),
        *((f"{name}_step", ctypes.c_int64 * 3) for name in ("q", "k", "v", "out", "mask")),
        *((name, ctypes.c_int64) for name in ("mask_kind", "left", "right", "threads")),
        ("scale", ctypes.c_float),
    ]


class _Room(threading.local):
    """Memory that a thread's calls work in, one after the other; it goes with the thread."""

    memory: mmap.mmap | None = None

    def of(self, size: int) -> int:
        """The address of at least `size` bytes, on huge pages where there are some."""
        if self.memory is None or len(self.memory) < size:
            size = -(-size // HUGE_PAGE) * HUGE_PAGE
            self.memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(OSError):  # a kernel without them
                self.memory.madvise(mmap.MADV_HUGEPAGE)
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory))


_room = _Room()


def _in_rows(tensor: Tensor) -> Tensor:
    """With its last dimension contiguous."""
    return tensor if tensor.stride(3) == 1 or tensor.shape[3] == 1 else tensor.contiguous()


def _whole_mask(call: Call) -> Tensor | None:
    """[B, H, Tq, Tk] with its last dimension contiguous; what is broadcast but there stays so."""
    if call.mask is None:
        return None
    keys = call.k.shape[2]
    mask = call.mask.expand(*call.mask.shape[:3], keys)
    if mask.stride(3) != 1 and keys > 1:
        mask = mask.contiguous()
    return mask.expand(*call.q.shape[:3], keys)


def _bounds(varlen: Varlen | None) -> tuple[ctypes.Array[ctypes.c_int64] | None, ...]:
    if varlen is None:
        return None, None
    return tuple((ctypes.c_int64 * len(side))(*side) for side in (varlen.q, varlen.k))
