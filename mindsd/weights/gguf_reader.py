"""The reader of the package gguf, once for a file and whole arrays at a time.

transformers opens a GGUF file three times (for the configuration, the tokenizer, the weights), and
each time the package makes some numpy arrays of every word, merge and number of its vocabulary, one
after another; and the names of all tensors anew for every module of the model. What is private
to the two packages is touched here alone, and only while a file loads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, get_ident
from typing import Any

import gguf
import numpy as np
from gguf import GGUFReader, GGUFValueType

_alone = Lock()  # what is exchanged for a while belongs to all threads
Found = tuple[int, list[Any], list[int], list[GGUFValueType]]


class WholeArrays(GGUFReader):
    """The package's reader; parts of an array are views of it, or the bytes of a string."""

    def _build_fields(self, offs: int, count: int) -> int:
        self.data: Any = np.asarray(self.data)  # each view of a mapping runs Python
        return super()._build_fields(offs, count)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Found:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        head = struct.Struct("<IQ")
        kind, count = head.unpack_from(memoryview(self.data), orig_offs)
        own, start = GGUFValueType(kind), orig_offs + head.size
        words = own == GGUFValueType.STRING
        parts, size = self._strings(start, count) if words else self._numbers(start, own, count)
        types = [GGUFValueType.ARRAY, *[own][:count]]  # the package names none of what is empty
        return head.size + size, parts, list(range(count)), types

    def _strings(self, start: int, count: int) -> tuple[list[Any], int]:
        whole, at, parts = memoryview(self.data), start, []
        for _ in range(count):
            (length,) = struct.unpack_from("<Q", whole, at)
            parts.append(whole[at + 8 : at + 8 + length].tobytes())
            at += 8 + length
        return parts, at - start

    def _numbers(self, start: int, kind: GGUFValueType, count: int) -> tuple[list[Any], int]:
        dtype = np.dtype(self.gguf_scalar_to_np[kind]).newbyteorder("<")
        size = count * dtype.itemsize
        values = np.frombuffer(self.data[start : start + size], dtype)
        return list(values.reshape(count, 1)), size


@contextmanager
def read_once() -> Iterator[None]:
    """In here, what this thread asks of the package gguf for a file is read once.

    Files are such as `check_gguf` found sound. Other threads get the package's own readers.
    """
    with _alone:
        before = gguf.GGUFReader, gguf.get_tensor_name_map
        one, names = lru_cache(maxsize=1)(WholeArrays), lru_cache(maxsize=1)(before[1])
        owner = get_ident()

        def reader(*given: Any, **named: Any) -> GGUFReader:
            make = one if get_ident() == owner else before[0]
            return make(*given, **named)

        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names  # pyright: ignore
        try:
            yield
        finally:
            gguf.GGUFReader, gguf.get_tensor_name_map = before
