"""The story of a run, a JSON object a line, added to and never changed, synced line by line.

    {"begun": [keys], "missing": [keys]}          these are drawn together now, to have the latter
    {"key": ..., "file": ..., "line": ..., "prompt": ..., "parameters": {...}, "seconds": ...}
    {"key": ..., "line": ..., "error": ...}       this one failed; it is tried again

An image counts when its line is there and its file; what a kill left between the two is drawn again
into the same file. Shards write one manifest each and read all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..answer_file import AnswerFile, Form, Key

Entry = dict[str, Any]
STARTS = (b'{"begun": ', b'{"key": ')


class Manifest(AnswerFile):
    """The one that this process writes.

    Raises:
        OutputError: it cannot be written, or another kind of file has its name.
    """

    def __init__(self, path: Path):
        super().__init__(path, Form(STARTS, key_of_entry))

    def add(self, answer: Entry) -> None:
        """Write one entry; when this returns, it outlasts a power cut.

        Raises:
            OutputError: the disk is full, or the file went away.
        """
        super().add(answer)
        os.fsync(self._file.fileno())


def key_of_entry(told: Entry) -> Key | None:
    """What an entry is known by; None where it is none."""
    begun = told.get("begun")
    if isinstance(begun, list) and all(isinstance(key, str) for key in begun):
        return "begun", " ".join(begun)
    told_well = isinstance(told.get("file", told.get("error")), str)
    return ("key", told["key"]) if told_well and isinstance(told.get("key"), str) else None


def read_entries(folder: Path) -> list[Entry]:
    """The entries of all manifests of a folder, those of each in order; none without a folder."""
    return [entry for file in sorted(folder.glob("manifest*.jsonl")) for entry in _entries(file)]


def _entries(file: Path) -> Iterator[Entry]:
    with open(file, "rb") as lines:
        for line in lines:
            try:
                told = json.loads(line)
            except (ValueError, RecursionError):  # cut by a kill, or being written by a shard
                continue
            if isinstance(told, dict) and key_of_entry(told) is not None:
                yield told
