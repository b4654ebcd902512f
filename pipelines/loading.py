"""A model folder, or a pipeline in memory, to a `LoadedModel` on the device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from mindsd.aside import aside
from mindsd.attention.chosen import check_attention
from mindsd.attention.layers import IMAGE_EIGHT_BITS, IMAGE_LAYERS, check_layers
from mindsd.device import DTYPES, Device, fast_dtype, find_device
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.arguments import settable
from mindsd.pipelines.model import LoadedModel
from mindsd.weights.autoencoder import AutoencoderFolder, check_fits, find_autoencoder
from mindsd.weights.defaults import DEFAULTS
from mindsd.weights.folder import ModelFolder, find_model

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


def load_model(
    model: str | Path | DiffusionPipeline,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    layers: str = "auto",
    vae: str | Path | None = None,
) -> LoadedModel:
    """Load an embedded model by name or a diffusers folder by path, or take a loaded pipeline.

    Args:
        model: "tiny-sd", a folder, or a diffusers pipeline already in memory (used as it is).
        device: "auto", "npu", "cuda" or "cpu".
        dtype: "auto" (what this device runs fast), "float32", "float16" or "bfloat16".
        attention: "auto" (ours where it outdoes torch's), "off" (always diffusers' own), or on an
            NPU "sparse:0.5" (half of the keys of long sequences, lossy), "mindiesd" or
            "flash-attn-npu" (first, where installed).
        layers: beside attention, "auto" (an NPU's fused operators; on a CPU prepacked layers and
            fused kernels, for large models), "off" (diffusers' own), or as "auto" with the
            denoiser's large layers in 8 bits: "w8a8" on an NPU, "int8" on a CPU; "compiled" has
            torch compile the blocks, on an NVIDIA GPU or a CPU, "fp8" with large linear layers of
            the denoiser in 8-bit floating point, on a GPU.
        vae: a folder of diffusers' AutoencoderKL or AutoencoderTiny that decodes in the place of
            the model folder's own, and encodes; it has to be made for the same latents.

    Raises:
        ModelError: the folder is missing, incomplete, not safe, or not readable.
        RequestError: the device or dtype is not one that this machine has, or the pipeline is
            already another, or the device has no such layers.
    """
    if isinstance(model, DiffusionPipeline):
        if vae is not None:
            raise RequestError(
                "vae is for model folders; give a pipeline its autoencoder yourself: pipe.vae = ..."
            )
        place = _place_of(model, device, dtype)
        return LoadedModel(type(model).__name__, model, place, attention, layers)
    folder, place, kind, other = foresee(model, device, dtype, attention, layers, vae)
    pipe = aside(lambda: _read(folder, kind, other))
    pipe.to(place.torch)
    named = "" if other is None else other.name
    return LoadedModel(folder.name, pipe, place, attention, layers, folder.defaults, named)


def foresee(
    model: str | Path,
    device: str,
    dtype: str,
    attention: str,
    layers: str,
    vae: str | Path | None = None,
) -> tuple[ModelFolder, Device, torch.dtype, AutoencoderFolder | None]:
    """What would be loaded, where, as what, and with which autoencoder in its own's place.

    It takes what `load_model` takes.

    Raises:
        ModelError, RequestError: as `load_model`, of all that is known before weights are read.
    """
    _check_dtype(dtype)
    place, folder = find_device(device), find_model(model)
    kind = DTYPES.get(dtype) or fast_dtype(place, folder.weight)
    check_attention(attention, place.kind)
    check_layers(layers, place.kind, kind, IMAGE_LAYERS, IMAGE_EIGHT_BITS)
    other = None if vae is None else find_autoencoder(vae)
    if other is not None:
        check_fits(other, folder)
    return folder, place, kind, other


def _check_dtype(dtype: str) -> None:
    if dtype not in ("auto", *DTYPES):
        raise RequestError(f"unknown dtype {dtype!r}; choose auto, {', '.join(DTYPES)}")


def _place_of(pipe: DiffusionPipeline, device: str, dtype: str) -> Device:
    """Where a pipeline in memory is; what was asked must be so already."""
    _check_dtype(dtype)
    there = find_device(pipe.device.type)
    if device != "auto" and find_device(device).kind != there.kind:
        raise RequestError(
            f"the pipeline is on {there.kind}, not {device}; move it first: pipe.to({device!r})"
        )
    if dtype != "auto" and DTYPES[dtype] is not pipe.dtype:
        raise RequestError(
            f"the pipeline is in {str(pipe.dtype).removeprefix('torch.')}, not {dtype}; "
            f"convert it first: pipe.to(torch.{dtype})"
        )
    return there


def _read(
    folder: ModelFolder, dtype: torch.dtype, other: AutoencoderFolder | None
) -> DiffusionPipeline:
    kind = getattr(diffusers, folder.pipeline, None)
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        raise ModelError(
            f"{folder.path} names {folder.pipeline}, which diffusers {diffusers.__version__} "
            "does not have as a pipeline; upgrade diffusers or check model_index.json"
        )
    if strange := sorted(set(folder.defaults.options) - settable(kind)):
        raise ModelError(
            f"{folder.path / DEFAULTS} sets options that {folder.pipeline} does not take, or that "
            f"mindsd sets itself: {', '.join(strange)}"
        )
    given = {} if other is None else {"vae": _autoencoder(other, dtype)}
    try:
        return DiffusionPipeline.from_pretrained(
            str(folder.path),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            **_parts(folder, dtype, given),
            **dict.fromkeys(folder.absent),  # said to be null it would still be missed
        )
    except UNREADABLE as error:
        raise _unreadable(folder.path, folder.pipeline, error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> ModelError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(f"{path} cannot be loaded as {kind}: {first}")


def _autoencoder(other: AutoencoderFolder, dtype: torch.dtype) -> torch.nn.Module:
    try:
        return _part(getattr(diffusers, other.kind), other.path, dtype)
    except UNREADABLE as error:
        raise _unreadable(other.path, other.kind, error) from error


def _parts(
    folder: ModelFolder, dtype: torch.dtype, given: Mapping[str, torch.nn.Module]
) -> dict[str, torch.nn.Module]:
    """The components that hold weights; those that are given stand for the folder's own."""
    libraries: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
    parts = dict(given)
    for name, (library, kind) in folder.components.items():
        found: Any = getattr(libraries.get(library), kind, None)
        if name not in given and _holds_weights(found):
            parts[name] = _part(found, folder.path / name, dtype)
    return parts


def _part(kind: Any, path: Path, dtype: torch.dtype) -> torch.nn.Module:
    """One with all of its weights.

    The pipeline's own loader would only warn of weights that the files lack, and go on with random
    numbers in their place.
    """
    part, told = kind.from_pretrained(
        str(path),
        output_loading_info=True,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
    )
    if missing := sorted(told["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(missing)} weights of {kind.__name__}, first {missing[0]}; "
            "copy the folder again"
        )
    return part


def _holds_weights(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)
