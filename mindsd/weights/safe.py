"""What is refused before any reader opens a model folder: code, pickles, paths that lead out of it.

A pickle runs whatever its author wrote when it is read, and a `.py` file is code: a folder that
holds either is refused as a whole, read or not, so that nobody has to know which files a library
picks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mindsd.errors import ModelError

PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz"})
CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh"})


def check_files(folder: Path) -> None:
    """Refuse a folder that holds code, pickles, broken weights or an index that leads out of it.

    Raises:
        ModelError: names the first such file, and what to do.
    """
    root = folder.resolve()
    for file in sorted(folder.rglob("*")):
        name, suffix = file.relative_to(folder), file.suffix.lower()
        if file.is_dir() and file.is_symlink():
            raise ModelError(
                f"{name} in {folder} is a linked folder, which is not followed; copy it"
            )
        if file.is_dir() or name.parts[0] == ".git":
            continue
        if suffix in PICKLES:
            raise ModelError(
                f"{name} in {folder} is a pickle, which can run code when it is read; "
                "keep only .safetensors weights (pipeline.save_pretrained writes them)"
            )
        if suffix in CODE:
            raise ModelError(f"{name} in {folder} is code, which is never run; remove it")
        if file.name.endswith(".index.json"):
            check_index(file, root)
        if suffix == ".safetensors":
            check_weights(file)


def check_index(file: Path, root: Path) -> None:
    """Refuse a sharded index that names files elsewhere or files that are missing."""
    try:
        shards = set(json.loads(file.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{file} is not a sharded index with a weight_map ({error})") from None
    for shard in sorted(map(str, shards)):
        target = file.parent / shard
        inside = Path(shard).name == shard and target.parent.resolve().is_relative_to(root)
        if not inside:
            raise ModelError(f"{file} names {shard!r}, which leads out of its folder; not loaded")
        if target.suffix != ".safetensors":
            raise ModelError(f"{file} names {shard!r}, which is no .safetensors file; not loaded")
        if not target.is_file():
            raise ModelError(f"{file} names {shard!r}, which is missing; copy the folder again")


def check_weights(file: Path) -> None:
    """Refuse weights whose header is broken or whose data is cut short."""
    try:
        with safe_open(file, framework="numpy") as weights:
            weights.keys()
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file} is not readable as safetensors ({error}); copy it again"
        ) from None


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: there is no such file, or something else in it.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} must hold a JSON object, found {type(content).__name__}")
    return content
