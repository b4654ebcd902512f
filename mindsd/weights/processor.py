"""The processor of a vision-language model: pictures and text, to what the model takes.

It is transformers' own class with PIL underneath. transformers makes a video processor beside it
wherever the family knows videos, and that takes torchvision, which mindsd never uses: `NoVideos`
stands in its place and refuses. What is private in transformers is touched here alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING_NAMES,
    get_image_processor_class_from_name,
)
from transformers.models.auto.processing_auto import (
    PROCESSOR_MAPPING_NAMES,
    processor_class_from_name,
)
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import (
    MODALITY_TO_BASE_CLASS_MAPPING,
    ProcessorMixin,
    VideosKwargs,
)

from mindsd.errors import MindsdError, ModelError, RequestError
from mindsd.weights.language import LanguageFiles
from mindsd.weights.loading import SAFE, first_line, quiet
from mindsd.weights.safe import read_object

PROCESSOR = "processor_config.json"  # of the whole, with the pictures' part in it since 5.0
PICTURES = "preprocessor_config.json"  # of the pictures' part alone
TOKENIZER = "tokenizer_config.json"
PARTS = frozenset({"image_processor", "tokenizer", "video_processor"})
NEEDED = ("patch_size", "num_image_tokens", "image_seq_length")  # by the classes that have them

_making = Lock()


class NoVideos(BaseImageProcessor):
    """Stands where a processor of transformers wants its video processor, and refuses videos."""

    valid_kwargs: Any = VideosKwargs
    model_input_names: list[str] = []
    num_frames = fps = None  # SmolVLM asks for them with every chat

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise RequestError("videos are not read; give some of their frames as images")

    def to_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}


def load_processor(files: LanguageFiles, tokenizer: PreTrainedTokenizerBase) -> ProcessorMixin:
    """Make the processor that a vision-language model's folder describes; nothing is printed.

    Args:
        files: what `find_language_model` found, of a model that sees.
        tokenizer: its tokenizer; some families add their image tokens to it.

    Raises:
        ModelError: the folder describes none, one that takes more than PIL, or none of
            transformers' own.
    """
    if not files.sees:
        raise ModelError(f"{files.path} is a model of text alone: it has no processor of images")
    with quiet():
        try:
            return _load(files, tokenizer)
        except MindsdError:
            raise
        except Exception as error:
            raise ModelError(
                f"the processor of {files.folder} cannot be made: {first_line(error)}"
            ) from error


def make_processor(
    kind: type[ProcessorMixin],
    image_processor: BaseImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    settings: dict[str, Any],
) -> ProcessorMixin:
    """Make a processor of this class without its videos.

    Args:
        kind: a class of transformers.
        image_processor: one that runs on PIL.
        tokenizer: the model's.
        settings: its further arguments by name, `chat_template` among them; what its class does
            not take is passed over, as transformers does.
    """
    given = {
        "image_processor": image_processor,
        "tokenizer": tokenizer,
        "video_processor": NoVideos(),
    }
    with _without_videos():
        parts = [given[name] for name in kind.get_attributes()]
        made: Any = kind.from_args_and_dict(parts, settings)
        return made


@contextmanager
def _without_videos() -> Iterator[None]:
    """In here a processor takes `NoVideos` for its video processor.

    Without torchvision transformers does not even have the class that it checks for, and SmolVLM's
    asks for num2words, with which it would name a video's number of frames.
    """
    with _making:
        known: Any = MODALITY_TO_BASE_CLASS_MAPPING["video_processor"]
        words = processing_smolvlm.num2words
        MODALITY_TO_BASE_CLASS_MAPPING["video_processor"] = "ImageProcessingMixin"
        processing_smolvlm.num2words = words or str
        try:
            yield
        finally:
            MODALITY_TO_BASE_CLASS_MAPPING["video_processor"] = known
            processing_smolvlm.num2words = words


def _load(files: LanguageFiles, tokenizer: PreTrainedTokenizerBase) -> ProcessorMixin:
    told = {name: _read(files.folder / name) for name in (PROCESSOR, PICTURES, TOKENIZER)}
    pictures = told[PROCESSOR].get("image_processor") or told[PICTURES]
    if not pictures:
        raise ModelError(
            f"{files.folder} has no {PICTURES} and no image_processor in {PROCESSOR}: nothing "
            "says how it reads images; copy the folder again"
        )
    kind = _processor_class(files, told)
    image_processor = _image_class(files, pictures).from_dict(pictures)
    settings, _ = kind.get_processor_dict(files.folder, **SAFE)
    if not settings.get("chat_template"):
        settings["chat_template"] = tokenizer.chat_template
    processor = make_processor(kind, image_processor, tokenizer, settings)
    for name in NEEDED:
        if getattr(processor, name, name) is None:
            raise ModelError(
                f"{files.folder} has no {name} in {PROCESSOR}, nor in {PICTURES}, without which "
                f"{kind.__name__} cannot count an image's tokens; copy them again, or add it"
            )
    return processor


def _read(file: Path) -> dict[str, Any]:
    return read_object(file) if file.is_file() else {}


def _processor_class(files: LanguageFiles, told: dict[str, dict[str, Any]]) -> Any:
    """The class that the files name, or that transformers has for the model type."""
    named = [config["processor_class"] for config in told.values() if config.get("processor_class")]
    usual = PROCESSOR_MAPPING_NAMES.get(files.kind, f"of the model type {files.kind}")
    name = str(named[0] if named else usual)
    owner = any("AutoProcessor" in (config.get("auto_map") or {}) for config in told.values())
    if name not in PROCESSOR_MAPPING_NAMES.values():
        raise ModelError(_unknown(files, "processor", name, owner))
    kind: Any = processor_class_from_name(name)
    parts = set(kind.get_attributes())
    if more := sorted(parts - PARTS) or [key for key in told[PROCESSOR] if "audio_tok" in key]:
        raise ModelError(
            f"{files.folder} needs {name}, which takes more than images and text ({more[0]}): "
            "not supported"
        )
    if parts < {"image_processor", "tokenizer"}:
        raise ModelError(f"{files.folder} needs {name}, which reads no images")
    return kind


def _image_class(files: LanguageFiles, pictures: dict[str, Any]) -> Any:
    """The class for PIL of the image processor that the settings name, or of the model type's."""
    old = str(pictures.get("feature_extractor_type") or "")
    name = pictures.get("image_processor_type") or old.replace("FeatureExtractor", "ImageProcessor")
    name = str(name).removesuffix("Fast").removesuffix("Pil")
    if not name:
        known = IMAGE_PROCESSOR_MAPPING_NAMES.get(files.kind, {})
        name = f"of the model type {files.kind}"
    else:
        mappings = IMAGE_PROCESSOR_MAPPING_NAMES.values()
        known = next((names for names in mappings if name in names.values()), {})
    if not known:
        owner = "AutoImageProcessor" in (pictures.get("auto_map") or {})
        raise ModelError(_unknown(files, "image processor", name, owner))
    kind = known.get("pil")
    if kind is None:
        raise ModelError(
            f"{files.folder} needs the image processor {known['torchvision']}, which transformers "
            "has for torchvision alone: not supported"
        )
    return get_image_processor_class_from_name(kind)


def _unknown(files: LanguageFiles, part: str, name: str, owner: bool) -> str:
    reason = "its own code (auto_map), which is never run" if owner else "a newer transformers"
    return (
        f"{files.folder} needs {reason}: transformers {transformers.__version__} has no {part} "
        f"{name!r}"
    )
