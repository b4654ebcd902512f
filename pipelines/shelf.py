"""The models, adapters and profiles of one machine, known by ids and never by paths.

    models/               the operator's folder
        sd15/             a diffusers folder             -> "sd15", draws
        qwen2-vl/         a transformers folder          -> "qwen2-vl", sees and writes
        smol.gguf         a GGUF file                    -> "smol", writes
        loras/            adapters
            ink.safetensors                              -> adapter "ink"

Nothing heavy is imported and no weights are read: what a folder holds is seen by its configuration.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mindsd.errors import ModelError, RequestError, UnknownModel
from mindsd.weights.embedded import embedded, embedded_language
from mindsd.weights.folder import INDEX
from mindsd.weights.language import CONFIG, EYES, PACKAGES

Kind = Literal["image", "text", "vision"]
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LORAS = "loras"
PROFILE_ENDINGS = (".profile.json", ".json")
LARGEST_CONFIG = 2**20  # bytes


@dataclass(frozen=True)
class Entry:
    """A model on the shelf.

    Attributes:
        id: what requests call it.
        kind: "image" draws, "text" writes, "vision" sees and writes.
        source: what the loaders take: a known name or a path.
        created: seconds since 1970 of its files; 0 for what ships with mindsd.
    """

    id: str
    kind: Kind
    source: str
    created: int = 0


class Shelf:
    """What may be loaded: the embedded models, those in a folder, and some that are named.

    Args:
        folder: the operator's; its entries are read anew each time.
        named: further models by id.
        shipped: whether those that ship with mindsd are there.
        profiles: folder of what `mindsd tune` wrote; None for none.

    Raises:
        ModelError: the folder is none.
        RequestError: an id is not made of letters, digits, dots, dashes and underscores.
    """

    def __init__(
        self,
        folder: Path | None = None,
        named: Mapping[str, Path] | None = None,
        *,
        shipped: bool = True,
        profiles: Path | None = None,
    ) -> None:
        if folder is not None and not folder.is_dir():
            raise ModelError(f"{folder} is no folder; name the one that holds the models")
        for name in named or {}:
            if not ID.fullmatch(name):
                raise RequestError(f"{name!r} is no id of a model: letters, digits, '.', '-', '_'")
        self._folder = folder
        self._named = dict(named or {})
        self._shipped = shipped
        self._profiles = profiles

    def entries(self) -> dict[str, Entry]:
        """Every model by its id; the named ones come first, then the folder's."""
        found: dict[str, Entry] = {}
        for entry in (*self._of_named(), *self._of_folder(), *self._of_embedded()):
            found.setdefault(entry.id, entry)
        return found

    def find(self, id: str) -> Entry:
        """The model of this id.

        Raises:
            UnknownModel: there is none.
        """
        known = self.entries()
        if id in known:
            return known[id]
        near = difflib.get_close_matches(id, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise UnknownModel(f"no model {id[:64]!r}; {hint}")

    def loras(self) -> dict[str, Path]:
        """Adapters for image models by their ids."""
        return {} if self._folder is None else lora_files(self._folder / LORAS)

    def profiles(self) -> dict[str, Path]:
        """Files of tuned accelerations by their ids, in the order of those."""
        files = [] if self._profiles is None else self._profiles.glob("*.json")
        named = {_without_ending(file.name): file for file in sorted(files) if file.is_file()}
        return {id: file for id, file in sorted(named.items()) if ID.fullmatch(id)}

    def _of_named(self) -> Iterator[Entry]:
        for id, path in self._named.items():
            if (kind := _kind(path)) is not None:
                yield Entry(id, kind, str(path), _time(path))

    def _of_folder(self) -> Iterator[Entry]:
        for path in sorted(self._folder.iterdir()) if self._folder is not None else ():
            id = path.stem if path.suffix.lower() == ".gguf" else path.name
            if ID.fullmatch(id) and (kind := _kind(path)) is not None:
                yield Entry(id, kind, str(path), _time(path))

    def _of_embedded(self) -> Iterator[Entry]:
        if self._shipped:
            yield from (Entry(name, "image", name) for name in embedded())
            yield from (Entry(name, "vision", name) for name in embedded_language())
            yield from (
                Entry(own, "text", own) for own, made in PACKAGES.items() if find_spec(made)
            )


def lora_files(folder: Path) -> dict[str, Path]:
    """The adapters of a folder by their ids; none where there is no folder."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return {file.stem: file for file in files if ID.fullmatch(file.stem) and file.is_file()}


def _without_ending(name: str) -> str:
    ending = next(own for own in PROFILE_ENDINGS if name.endswith(own))
    return name.removesuffix(ending)


def _kind(path: Path) -> Kind | None:
    """What lies at a path, by its configuration; None for nothing that could be loaded."""
    config = path / CONFIG
    try:
        if path.is_file():
            return "text" if path.suffix.lower() == ".gguf" else None
        if (path / INDEX).is_file():
            return "image"
        if not config.is_file() or config.stat().st_size > LARGEST_CONFIG:
            return None
        told = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or "model_type" not in told:
        return None
    return "vision" if told.get(EYES) else "text"


def _time(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:  # it was taken away meanwhile
        return 0
