"""What a GGUF file holds, read from its header alone and checked before any library opens it.

The libraries that load such files believe every number in them: one flipped bit can make them
allocate what the number says. Here no number is believed before it is held against the file's size.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError
from mindsd.weights.cursor import Cursor

VERSIONS = (2, 3)
# Far above what models have (Gemma: 1.3 million elements, 2,000 tensors), far below what hurts.
MOST_ELEMENTS = 4 * 2**20  # of all arrays together
MOST_KEYS, MOST_TENSORS = 10_000, 100_000

# ggml's number of a tensor type -> values of a block and its bytes, for those that the package gguf
# unpacks. In this order: F32, F16, BF16; Q4_0, Q4_1, Q5_0, Q5_1, Q8_0; Q2_K to Q6_K; IQ2_XXS,
# IQ2_XS, IQ3_XXS, IQ1_S, IQ4_NL; IQ3_S, IQ2_S, IQ4_XS, IQ1_M; TQ1_0, TQ2_0, MXFP4.
BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 30: (1, 2)},
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18)},
    **{21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17)},
}
# ggml's number of a value type -> struct's letter, and the two types without a fixed size.
SCALARS = dict(zip([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12], "BbHhIif?Qqd", strict=True))
STRING, ARRAY = 8, 9
ENDS = ("eos", "eot", "eom")  # end of sequence, of turn, of message


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies.

    Attributes:
        shape: sizes, the fastest moving first (torch's order reversed).
        kind: ggml's number of its type, a key of `BLOCKS`.
        start: first byte, from the start of the data.
        size: bytes.
    """

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file whose header is sound.

    Attributes:
        path: the file.
        architecture: as llama.cpp calls it ("llama", "qwen2").
        values: metadata; of an array only the number of its elements.
        tensors: name -> where it lies.
    """

    path: Path
    architecture: str
    values: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids of the tokens that end a text or a turn, as the file names them."""
        found = [self.values.get(f"tokenizer.ggml.{name}_token_id") for name in ENDS]
        return tuple(dict.fromkeys(end for end in found if type(end) is int))


def check_gguf(path: str | Path) -> GgufFile:
    """Read the header of a GGUF file, holding every number in it against the file's size.

    Raises:
        ModelError: it is no GGUF file, it is cut short, or its numbers contradict each other.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _read(Cursor(path, stream, "GGUF"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error})") from None


def _read(cursor: Cursor) -> GgufFile:
    tensors, keys = _counts(cursor)
    values = _values(cursor, keys)
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise cursor.broken("its metadata names no general.architecture")
    found: dict[str, GgufTensor] = {}
    for _ in range(tensors):
        name = _new_name(cursor, found, "tensor")
        found[name] = _tensor(cursor, name)
    _check_places(cursor, found, _data_start(cursor, values))
    return GgufFile(cursor.path, architecture, values, found)


def _counts(cursor: Cursor) -> tuple[int, int]:
    path = cursor.path
    if cursor.size < 24 or cursor.bytes(4, "its magic") != b"GGUF":
        raise ModelError(f"{path} is no GGUF file: it does not begin with GGUF and its counts")
    version = cursor.number("I")
    if version and version % 2**16 == 0:
        raise ModelError(f"{path} is a big-endian GGUF, which is not read; convert the model again")
    if version not in VERSIONS:
        raise ModelError(
            f"{path} is GGUF version {version}, only 2 and 3 are read; convert the model again"
        )
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise cursor.broken(
            f"it claims {tensors} tensors and {keys} keys, more than {MOST_TENSORS} and {MOST_KEYS}"
        )
    return tensors, keys


def _values(cursor: Cursor, keys: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    elements = 0
    for _ in range(keys):
        key = _new_name(cursor, values, "key")
        kind = cursor.number("I")
        if kind in SCALARS:
            values[key] = cursor.number(SCALARS[kind])
        elif kind == STRING:
            values[key] = cursor.string(repr(key))
        elif kind == ARRAY:
            values[key] = _array(cursor, key, MOST_ELEMENTS - elements)
            elements += values[key]
        else:
            raise cursor.broken(f"{key!r} has the unknown type {kind}")
    return values


def _array(cursor: Cursor, key: str, most: int) -> int:
    kind, count = cursor.number("I"), cursor.number("Q")
    if count > most:
        raise cursor.broken(f"{key!r} claims {count} elements; all may have {MOST_ELEMENTS}")
    if kind in SCALARS:
        cursor.skip(count * struct.calcsize("<" + SCALARS[kind]), repr(key))
    elif kind == STRING:
        for _ in range(count):
            cursor.string(repr(key))
    else:
        raise cursor.broken(f"{key!r} is an array of the type {kind}, which no model has")
    return count


def _tensor(cursor: Cursor, name: str) -> GgufTensor:
    count = cursor.number("I")
    if not 1 <= count <= 4:
        raise cursor.broken(f"{name!r} has {count} dimensions, not 1 to 4")
    shape = tuple(cursor.number("Q") for _ in range(count))
    kind, start = cursor.number("I"), cursor.number("Q")
    if kind not in BLOCKS:
        raise ModelError(
            f"{cursor.path} holds {name!r} in ggml's type {kind}, which cannot be unpacked; "
            "take a file in Q4_K, Q8_0, F16 or the like"
        )
    values, size = BLOCKS[kind]
    if min(shape) < 1 or shape[0] % values:
        raise cursor.broken(f"{name!r} of shape {shape} does not divide into blocks of {values}")
    return GgufTensor(shape, kind, start, prod(shape) // values * size)


def _new_name(cursor: Cursor, known: dict[str, Any], what: str) -> str:
    name = cursor.string(f"the name of {what} {len(known)}")
    if name in known:
        raise cursor.broken(f"the {what} {name!r} is there twice")
    return name


def _data_start(cursor: Cursor, values: dict[str, Any]) -> int:
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise cursor.broken(f"its alignment {alignment!r} is no power of two")
    return -(-cursor.place // alignment) * alignment


def _check_places(cursor: Cursor, tensors: dict[str, GgufTensor], data: int) -> None:
    """Every tensor lies in the file, and none on another: else few bytes could make many."""
    free = data
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        start, end = data + tensor.start, data + tensor.start + tensor.size
        if end > cursor.size:
            raise cursor.broken(f"{name!r} would end at byte {end}, the file at byte {cursor.size}")
        if start < free:
            raise cursor.broken(f"{name!r} begins at byte {start}, within what lies before it")
        free = end
