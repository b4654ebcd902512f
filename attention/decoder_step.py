"""What C is told of a step, once for all layers that see the same tokens."""

from __future__ import annotations

import ctypes
from array import array
from dataclasses import dataclass

import torch
from torch import Tensor

from mindsd.kvcache.pages import Pages
from mindsd.kvcache.step import Step

from .decoder_product import KINDS

Integers = ctypes.c_int64


class StepFields(ctypes.Structure):
    """A step, as C reads it."""

    _fields_ = [
        ("tokens", Integers),
        ("segments", Integers),
        ("start", ctypes.c_void_p),
        ("length", ctypes.c_void_p),
        ("past", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
        ("window", Integers),
        ("cosine", ctypes.c_void_p),
        ("sine", ctypes.c_void_p),
        ("threads", Integers),
        ("room", ctypes.c_void_p),
    ]


class PageFields(ctypes.Structure):
    """The pages of one layer, as C reads them."""

    _fields_ = [
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("key_scales", ctypes.c_void_p),
        ("value_scales", ctypes.c_void_p),
        ("kind", Integers),
        ("blocks", Integers),
        ("size", Integers),
    ]


@dataclass(frozen=True, eq=False)
class Told:
    """A step for C, and what its pointers point to."""

    fields: StepFields
    kept: tuple[object, ...]

    @property
    def address(self) -> int:
        return ctypes.addressof(self.fields)


def tell(
    step: Step, lane: int, window: int | None, turn: tuple[Tensor, Tensor], threads: int, room: int
) -> Told:
    """A step for C.

    Args:
        lane: of the layers.
        window: tokens that one sees; None for all.
        turn: cosine and sine, [1, T, dim] each.
        threads: that compute.
        room: the address of what they may write to.
    """
    size, segments = step.pages.size, step.segments
    table, blocks = array("q"), array("q")
    for segment in segments:
        table.append(len(blocks))
        blocks.extend(segment.blocks[lane][: -(-segment.total // size)])
    columns = (
        array("q", [own.start for own in segments]),
        array("q", [own.length for own in segments]),
        array("q", [own.past for own in segments]),
        table,
        blocks,
    )
    cosine, sine = (own.to(torch.float32).contiguous() for own in turn)
    pointers = [own.buffer_info()[0] for own in columns]
    angles = (cosine.data_ptr(), sine.data_ptr())
    fields = StepFields(step.tokens, len(segments), *pointers, window or 0, *angles, threads, room)
    return Told(fields, (columns, cosine, sine, turn))


def page_fields(keys: Pages, values: Pages) -> PageFields:
    """Plain pages for C."""
    scales = [None if own.scales is None else own.scales.data_ptr() for own in (keys, values)]
    kind = KINDS[keys.data.dtype]
    _, blocks, size, _ = keys.data.shape
    return PageFields(keys.data.data_ptr(), values.data.data_ptr(), *scales, kind, blocks, size)
