"""The small models that ship with mindsd, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def embedded() -> dict[str, Path]:
    """Name and folder of every embedded model."""
    root = Path(str(files("mindsd.assets")))
    return {
        folder.name: folder
        for folder in sorted(root.glob("tiny-*"))
        if (folder / "model_index.json").is_file()
    }
