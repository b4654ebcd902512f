"""A model folder to a diffusers pipeline on the device, its modules open to the engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from mindsd.batching.coroutine import make_batchable
from mindsd.device import Device, find_device
from mindsd.errors import ModelError, RequestError
from mindsd.weights.folder import ModelFolder, find_model
from mindsd.wrap import Wrap, wrap

# What the libraries raise for a folder whose files do not belong together.
UNREADABLE = (
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(eq=False)
class LoadedModel:
    """A pipeline whose heavy modules can be shared by many requests.

    Attributes:
        name: what people call it.
        pipe: the diffusers pipeline; requests use copies of it and share its weights.
        device: where it lives.
        wraps: what makes its modules batchable; `remove` takes all of it off.
    """

    name: str
    pipe: DiffusionPipeline
    device: Device
    wraps: list[Wrap] = field(default_factory=list)

    def remove(self) -> None:
        """Give the pipeline back as diffusers made it."""
        for own in reversed(self.wraps):
            own.remove()
        self.wraps.clear()


def load_model(
    model: str | Path | DiffusionPipeline, device: str = "auto", dtype: str = "auto"
) -> LoadedModel:
    """Load an embedded model by name or a diffusers folder by path, or take a loaded pipeline.

    Args:
        model: "tiny-sd", a folder, or a diffusers pipeline already in memory (used as it is).
        device: "auto", "npu", "cuda" or "cpu".
        dtype: "auto" (what this device runs fast), "float32", "float16" or "bfloat16".

    Raises:
        ModelError: the folder is missing, incomplete, not safe, or not readable.
        RequestError: the device or dtype is not one that this machine has.
    """
    place = find_device(device)
    if dtype not in ("auto", *DTYPES):
        raise RequestError(f"unknown dtype {dtype!r}; choose auto, {', '.join(DTYPES)}")
    if isinstance(model, DiffusionPipeline):
        pipe, name = model, type(model).__name__
    else:
        folder = find_model(model)
        pipe, name = _read(folder, DTYPES.get(dtype, place.dtype)), folder.name
        pipe.to(place.torch)
    return LoadedModel(name, pipe, place, open_modules(pipe))


def _read(folder: ModelFolder, dtype: torch.dtype) -> DiffusionPipeline:
    kind = getattr(diffusers, folder.pipeline, None)
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        raise ModelError(
            f"{folder.path} names {folder.pipeline}, which diffusers {diffusers.__version__} "
            "does not have as a pipeline; upgrade diffusers or check model_index.json"
        )
    try:
        return DiffusionPipeline.from_pretrained(
            str(folder.path),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            **_parts(folder, dtype),
        )
    except UNREADABLE as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{folder.path} cannot be loaded as {folder.pipeline}: {first}") from error


def _parts(folder: ModelFolder, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """The components that hold weights, each with all of them.

    The pipeline's own loader would only warn of weights that the files lack, and go on with random
    numbers in their place.
    """
    libraries: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
    parts: dict[str, torch.nn.Module] = {}
    for name, (library, kind) in folder.components.items():
        found: Any = getattr(libraries.get(library), kind, None)
        if not _holds_weights(found):
            continue
        parts[name], told = found.from_pretrained(
            str(folder.path / name),
            output_loading_info=True,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
        )
        if missing := sorted(told["missing_keys"]):
            raise ModelError(
                f"{folder.path / name} lacks {len(missing)} weights of {kind}, first {missing[0]}; "
                "copy the folder again"
            )
    return parts


def _holds_weights(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


def open_modules(pipe: DiffusionPipeline) -> list[Wrap]:
    """Make every heavy module of a pipeline batchable; the pipeline class need not be known."""
    return [own for name, part in modules(pipe).items() for own in _open(name, part)]


def modules(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The pipeline's components that hold weights, by name."""
    parts: dict[str, Any] = pipe.components
    return {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}


def _open(name: str, part: torch.nn.Module) -> list[Wrap]:
    encoder, decoder = getattr(part, "encoder", None), getattr(part, "decoder", None)
    if not (hasattr(part, "decode") and isinstance(decoder, torch.nn.Module)):
        cacheless = _kind(name) == "text" and _accepts(part.forward, "use_cache")
        below = [wrap(part, "forward", _without_cache)] if cacheless else []
        return [*below, make_batchable(part, "forward", _kind(name))]
    if _accepts(decoder.forward, "feat_cache"):
        # Video autoencoders keep state on the module between frames: only a whole decode is pure.
        return [make_batchable(part, "decode", "image")]
    halves = [half for half in (encoder, decoder) if isinstance(half, torch.nn.Module)]
    return [make_batchable(half, "forward", "image") for half in halves]


def _accepts(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def _without_cache(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A prompt's keys and values are never read again, and cannot be divided into rows."""
    return original(*args, **{"use_cache": False, **kwargs})


def _kind(name: str) -> str:
    if name.startswith("text_encoder"):
        return "text"
    return "image" if name in ("image_encoder", "safety_checker") else "denoise"
