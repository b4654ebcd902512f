"""LoRA adapters of a language model, from the folders that peft writes.

    adapter_config.json          what was trained: rank, scale, target modules
    adapter_model.safetensors    base_model.model.<module>.lora_A.weight and ...lora_B.weight

A linear layer with an adapter computes W x + scale * B A x (Hu et al., arXiv:2106.09685). Only that
is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mindsd.errors import ModelError
from mindsd.weights.lora_options import WAY_OUT, LoraOptions
from mindsd.weights.safe import check_files, read_object

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
TASKS = (None, "CAUSAL_LM")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class LoraLayer:
    """What an adapter adds to one linear layer: x @ a.T @ b.T.

    Attributes:
        a: [rank, in].
        b: [out, rank], the scale already in it; both in the dtype that the layer computes in.
    """

    a: Tensor
    b: Tensor


def read_lora(folder: str | Path, model: Any) -> dict[str, LoraLayer]:
    """An adapter's layers by the names of the model's modules that they belong to.

    Args:
        folder: as peft's `save_pretrained` writes it.
        model: the transformers decoder that it was trained for, with its head.

    Raises:
        ModelError: the folder is incomplete, not safe, more than plain LoRA on linear layers inside
            the decoder, or made for another model.
        RequestError: peft is not installed.
    """
    path = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise ModelError(f"{path} has no {name}: it is not the folder of a LoRA adapter")
    check_files(path)
    given = read_object(path / CONFIG)
    config = LoraOptions(path / CONFIG, given)
    _check_origin(path / CONFIG, given, type(model).__name__)
    pairs = _pairs(path / WEIGHTS)
    _check_whole(path, config, model, set(pairs))
    return {
        name: _layer(path, name, pair, model, config.rank_and_scale(name))
        for name, pair in pairs.items()
    }


def _check_origin(file: Path, given: Mapping[str, Any], model: str) -> None:
    mapping = given.get("auto_mapping")
    trained = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if trained is not None and trained != model:
        raise ModelError(f"{file} was trained for a {trained}, this model is a {model}")
    if given.get("task_type") not in TASKS:
        task = given["task_type"]
        raise ModelError(f"{file} was trained for the task {task!r}; only CAUSAL_LM can be run")


def _pairs(file: Path) -> dict[str, dict[str, Tensor]]:
    """A and B of every module."""
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is not readable as safetensors ({error})") from None
    found: dict[str, dict[str, Tensor]] = {}
    for key, weight in weights.items():
        parts = KEY.fullmatch(key)
        if parts is None:
            raise ModelError(f"{file} holds {key}, more than plain LoRA; {WAY_OUT}")
        found.setdefault(parts[1], {})[parts[2]] = weight
    for name, pair in found.items():
        if len(pair) != 2:
            raise ModelError(f"{file} has lora_{''.join(pair)} of {name} and not the other half")
    if not found:
        raise ModelError(f"{file} holds no weights")
    return found


def _check_whole(path: Path, config: LoraOptions, model: Any, found: set[str]) -> None:
    """The weights are those of the modules that the configuration names, no more and no fewer."""
    for name in sorted(found):
        _module(path, model, name)
        if not config.targets(name):
            raise ModelError(f"{path} has weights of {name}, which its {CONFIG} does not target")
    missing = [name for name, _ in _linears(model) if config.targets(name) and name not in found]
    if missing:
        raise ModelError(
            f"{path} lacks {len(missing)} of the modules that it targets in this model, as "
            f"{missing[0]}; it is cut short or made for another model"
        )


def _linears(model: Any) -> Iterator[tuple[str, nn.Module]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D))


def _module(path: Path, model: Any, name: str) -> nn.Linear | Conv1D:
    """The linear layer of this name; one that all tokens of a step go through, in their order."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        kind = type(model).__name__
        raise ModelError(f"{path} adapts {name}, which this {kind} does not have") from None
    if not isinstance(module, nn.Linear | Conv1D):
        raise ModelError(f"{path} adapts {name}, a {type(module).__name__} and no linear layer")
    inside = any(module is own for own in model.get_decoder().modules())
    if not inside or module is model.get_output_embeddings() or "experts" in name.split("."):
        raise ModelError(
            f"{path} adapts {name}, which not every token of the decoder goes through; {WAY_OUT}"
        )
    return module


def _layer(
    path: Path, name: str, pair: dict[str, Tensor], model: Any, told: tuple[int, float]
) -> LoraLayer:
    (rank, scale), module = told, _module(path, model, name)
    weight: Any = module.weight
    out, into = weight.shape if isinstance(module, nn.Linear) else weight.shape[::-1]
    for half, shape in (("A", (rank, into)), ("B", (out, rank))):
        own = pair[half]
        if tuple(own.shape) != shape or not own.is_floating_point():
            raise ModelError(
                f"{path} has lora_{half} of {name} with {list(own.shape)} numbers ({own.dtype}), "
                f"this model needs {list(shape)}"
            )
        if not own.isfinite().all():
            raise ModelError(f"{path} has values that are not numbers in lora_{half} of {name}")
    dtype = weight.dtype if weight.dtype in DTYPES else model.dtype
    # Copies: what is read is a view of the file, which may change.
    a = pair["A"].to(weight.device, dtype, copy=True)
    return LoraLayer(a, (pair["B"].float() * scale).to(weight.device, dtype))
