"""The small models that ship with mindsd, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FIRST = "tiny-sd"  # what is drawn with unless something else is said


def embedded() -> dict[str, Path]:
    """Name and folder of every embedded image model."""
    found = _holding("model_index.json")
    return {FIRST: found.pop(FIRST), **found} if FIRST in found else found


def embedded_language() -> dict[str, Path]:
    """Name and folder of every embedded language model, those that see among them."""
    return _holding("config.json")


def _holding(file: str) -> dict[str, Path]:
    root = Path(str(files("mindsd.assets")))
    folders = sorted(root.glob("tiny-*"))
    return {folder.name: folder for folder in folders if (folder / file).is_file()}
