"""What decides an image, as short hashes: which model it is, what a picture holds."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError
from mindsd.weights.folder import find_model

DIGITS = 12  # hexadecimal, of a key: 48 bits
ENDS = 2**16  # bytes at both ends of a file of weights


@cache
def model_identity(model: str) -> str:
    """A hash of a model's folder, wherever it lies: its settings whole, its weights by their size
    and both ends, for they may be many GB.

    Raises:
        ModelError: there is no such model, or it cannot be read.
    """
    return folder_identity(find_model(model).path)


@cache
def folder_identity(folder: Path) -> str:
    """The same of any folder of weights.

    Raises:
        ModelError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix in (".json", ".txt", ".model", ".safetensors"):
                found.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
                found.update(_told(file))
    except OSError as error:
        raise ModelError(f"{folder} cannot be read ({error.strerror})") from None
    return found.hexdigest()


def digest(*facts: Any) -> str:
    """A hash of values that JSON can say, in hexadecimal."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(*facts: Any) -> str:
    """What an image is known by in names of files."""
    return digest(*facts)[:DIGITS]


def _told(file: Path) -> bytes:
    with open(file, "rb") as stream:
        if file.suffix != ".safetensors":
            return stream.read()
        size = stream.seek(0, 2)
        stream.seek(0)
        head = stream.read(ENDS)
        stream.seek(max(len(head), size - ENDS))
        return head + stream.read()
