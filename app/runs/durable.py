"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from mindsd.errors import OutputError

PART = ".part"


def write_durably(file: Path, content: bytes, tag: str) -> None:
    """Write a file in place of the one before: a temporary one, synced, then renamed.

    Args:
        tag: begins the temporary file's name, so that what a kill left is known.

    Raises:
        OutputError: the disk is full, or the folder went away.
    """
    written = file.parent / f"{tag}{uuid.uuid4().hex}{PART}"
    try:
        try:
            with open(written, "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            written.replace(file)
        finally:
            written.unlink(missing_ok=True)
        _sync(file.parent)
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror})") from error


def _sync(folder: Path) -> None:
    """So that the new name outlasts a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
