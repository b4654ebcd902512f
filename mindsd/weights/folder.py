"""What lies at a path or behind a name: a diffusers folder, checked to be whole and safe."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError
from mindsd.weights.defaults import CallDefaults, read_defaults
from mindsd.weights.embedded import embedded, embedded_language
from mindsd.weights.safe import check_files, read_object

LIBRARIES = ("diffusers", "transformers")  # a component of any other module would be remote code
INDEX = "model_index.json"


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers folder that passed every check.

    Attributes:
        name: the embedded model's name, or the folder's.
        path: where it lies.
        pipeline: the diffusers pipeline class that it names.
        components: component name -> (library, class).
        absent: components that its index lists as null.
        defaults: what its pipeline is called with where a request says nothing.
    """

    name: str
    path: Path
    pipeline: str
    components: dict[str, tuple[str, str]]
    absent: tuple[str, ...]
    defaults: CallDefaults

    @property
    def weight(self) -> int:
        """Bytes of weights in all."""
        return sum(file.stat().st_size for file in self.path.rglob("*.safetensors"))


def find_model(model: str | Path) -> ModelFolder:
    """The embedded model of this name, or the diffusers folder at this path.

    Raises:
        ModelError: there is neither, or the folder is incomplete or not safe to load.
    """
    if str(model) in embedded_language():
        raise ModelError(
            f"{model} looks at pictures and writes, it does not draw; show it one: "
            f"mindsd chat --model {model} --image PICTURE"
        )
    known = embedded()
    path = known.get(str(model), Path(model))
    if not path.is_dir():
        names = ", ".join(known) or "none"
        raise ModelError(
            f"no model {str(model)!r}: it is not a folder, and the embedded models are: {names}"
        )
    if not (path / INDEX).is_file():
        raise ModelError(f"{path} has no {INDEX}: it is not a diffusers folder")
    index = read_object(path / INDEX)
    check_files(path)
    return ModelFolder(
        path.resolve().name,
        path,
        _pipeline(path, index),
        _components(path, index),
        tuple(sorted(name for name, entry in index.items() if entry == [None, None])),
        read_defaults(path),
    )


def _pipeline(path: Path, index: dict[str, Any]) -> str:
    name = index.get("_class_name")
    if not isinstance(name, str):  # a list names a file of remote code
        raise ModelError(f"{path / INDEX} names no diffusers pipeline: _class_name is {name!r}")
    return name


def _components(path: Path, index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name, entry in index.items():
        if name.startswith("_") or not isinstance(entry, list) or len(entry) != 2:
            continue
        library, kind = entry
        if library is None or kind is None:
            continue
        if str(library) not in LIBRARIES and not _is_own_module(str(library)):
            raise ModelError(
                f"{name} of {path} comes from {library!r}, which would be remote code; not loaded"
            )
        _check_component(path / name, name, str(kind))
        found[name] = (str(library), str(kind))
    return found


def _is_own_module(library: str) -> bool:
    """diffusers names its pipelines' own components by their folder ("stable_diffusion")."""
    found = importlib.util.find_spec("diffusers")
    assert found is not None and found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "pipelines" / library
    return library.isidentifier() and folder.is_dir()


def _check_component(folder: Path, name: str, kind: str) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is missing: {INDEX} lists {name} ({kind}); copy the folder again"
        )
    if not any(folder.iterdir()):
        raise ModelError(f"{folder} is empty: it should hold {kind}; copy the folder again")
    if "Tokenizer" in kind:
        _check_tokenizer(folder, kind)
    config = folder / "config.json"
    if not config.is_file():  # schedulers and processors keep theirs by other names
        if any(folder.glob("*.safetensors")):
            raise ModelError(f"{folder} has weights but no config.json; copy the folder again")
        return
    read_object(config)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no .safetensors weights for {kind}; copy the folder again")


def _check_tokenizer(folder: Path, kind: str) -> None:
    """transformers would quietly make an empty vocabulary, or one without a longest length."""
    vocabularies = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
    if not any((folder / name).is_file() for name in vocabularies):
        raise ModelError(f"{folder} has no vocabulary for {kind}; copy the folder again")
    if not (folder / "tokenizer_config.json").is_file():
        raise ModelError(f"{folder} has no tokenizer_config.json; copy the folder again")
