"""A LoRA file for an image model, as diffusers, peft or kohya's scripts write it, to one form.

    unet.mid_block.attentions.0.proj_in.lora_A.weight                diffusers, peft
    lora_unet_mid_block_attentions_0_proj_in.lora_down.weight        kohya, with .alpha beside it

Alphas become part of the weights (alpha / rank, as the scripts that wrote them compute it) before
diffusers' own converters see them. Whatever is more than two plain factors is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.state_dict_utils import (
    StateDictType,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mindsd.errors import ModelError
from mindsd.weights.lora_options import WAY_OUT
from mindsd.weights.safe import PICKLES, check_weights

NAMED = "pytorch_lora_weights.safetensors"  # what diffusers' save_lora_weights calls it in a folder
OPTIONS = "lora_adapter_metadata"  # under which it puts peft's options into the file's head
FLOOR = 2**20  # bytes; a file may be as large as its model, or this
HALVES = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
)
OTHERS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    ".lokr_": "LoKr",
    ".hada_": "LoHa",
    ".oft_": "OFT",
    ".lora_mid.": "a LoRA with a third factor (CP)",
}


def read_lora_file(path: str | Path, pipe: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its weights as `<component>.<module>.lora_A.weight` and `...lora_B.weight`, and peft's
    options as `<component>.<option>`, {} where it has none.

    Raises:
        ModelError: it is no safetensors file, is larger than the model, more than plain LoRA, or
            of a form that this pipeline's loader in diffusers does not know.
    """
    file = _file(Path(path))
    check_weights(file)
    most = max(FLOOR, 4 * sum(weight.numel() for weight in _parameters(pipe)))
    if (size := file.stat().st_size) > most:
        raise ModelError(f"{file} has {size} bytes, more than its model's {most}; it is no LoRA")
    weights, told = _content(file)
    return _converted(file, _folded(file, weights), pipe), told


def _file(path: Path) -> Path:
    if path.is_dir():
        path = path / NAMED
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path} is a pickle, which can run code when it is read; get it as .safetensors"
        )
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise ModelError(f"{path} is no .safetensors file, nor a folder with {NAMED}")
    return path


def _parameters(pipe: Any) -> Any:
    modules = (own for own in pipe.components.values() if isinstance(own, torch.nn.Module))
    return (weight for module in modules for weight in module.parameters())


def _content(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, read into memory, and what the head says of them."""
    try:
        with safe_open(file, framework="pt") as opened:
            weights = {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118
            head = opened.metadata() or {}
        told = json.loads(head.get(OPTIONS, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not readable as safetensors ({error})") from None
    if not isinstance(told, dict):
        raise ModelError(f"{file} has {OPTIONS} that are no JSON object")
    return weights, told


def _folded(file: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pairs of factors alone, checked, the alphas in them."""
    pairs: dict[str, dict[int, str]] = {}
    alphas = {key.removesuffix(".alpha"): own for key, own in weights.items() if _is_alpha(key)}
    for key, weight in weights.items():
        if _is_alpha(key):
            continue
        stem, half = _half(file, key)
        if not weight.is_floating_point() or not weight.float().isfinite().all():
            raise ModelError(f"{file} has values in {key} that are not finite numbers")
        pairs.setdefault(stem, {})[half] = key
    if not pairs:
        raise ModelError(f"{file} holds no weights of a LoRA")
    if lonely := [next(iter(own.values())) for own in pairs.values() if len(own) == 1]:
        raise ModelError(f"{file} has {lonely[0]} and not the other half")
    if stray := sorted(alphas.keys() - pairs.keys()):
        raise ModelError(f"{file} has {stray[0]}.alpha and no factors for it")
    found: dict[str, Tensor] = {}
    for stem, own in pairs.items():
        down, up = weights[own[0]], weights[own[1]]
        if down.ndim < 2 or up.ndim < 2 or not 0 < down.shape[0] == up.shape[1]:
            raise ModelError(
                f"{file} has factors of {stem} that do not fit each other: {list(down.shape)} "
                f"and {list(up.shape)}"
            )
        scale = _alpha(file, stem, alphas[stem]) / len(down) if stem in alphas else None
        found |= {own[0]: down, own[1]: up if scale is None else up.float() * scale}
    return found


def _is_alpha(key: str) -> bool:
    return key.endswith(".alpha")


def _half(file: Path, key: str) -> tuple[str, int]:
    """What a key belongs to, and whether it is the first (0) or second (1) factor."""
    for mark, name in OTHERS.items():
        if mark in key:
            raise ModelError(f"{file} holds {key}: it is {name}, more than plain LoRA; {WAY_OUT}")
    for suffixes in HALVES:
        for half, suffix in enumerate(suffixes):
            if key.endswith(suffix):
                return key.removesuffix(suffix), half
    raise ModelError(f"{file} holds {key}, more than plain LoRA; {WAY_OUT}")


def _alpha(file: Path, stem: str, told: Tensor) -> float:
    if told.numel() != 1 or not (alpha := float(told)) > 0 or alpha == float("inf"):
        raise ModelError(f"{file} has an alpha of {stem} that is no number above 0")
    return alpha


def _converted(file: Path, weights: Mapping[str, Tensor], pipe: Any) -> dict[str, Tensor]:
    """By the pipeline class's own converter, which must use every value."""
    kind = type(pipe)
    if not hasattr(kind, "lora_state_dict"):
        raise ModelError(f"{kind.__name__} takes no LoRA: diffusers has no loader for it")
    options = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {}
    try:
        found = kind.lora_state_dict(dict(weights), **options)
        found = found[0] if isinstance(found, tuple) else found
        texts = {key: own for key, own in found.items() if key.startswith("text_encoder")}
        steps = {key: own for key, own in found.items() if key not in texts}
        for form in (StateDictType.DIFFUSERS_OLD, StateDictType.DIFFUSERS):
            texts = convert_state_dict_to_peft(texts, form)
        found = {**convert_unet_state_dict_to_peft(steps), **texts}
    except Exception as error:  # whatever the converter stumbles over
        raise ModelError(
            f"{file} cannot be read as a LoRA for {kind.__name__} ({type(error).__name__}: {error})"
        ) from None
    ups = tuple(up for _, up in HALVES)
    given, used = (_values(own, ups) for own in (weights, found))
    if given != used:
        raise ModelError(
            f"{file} has {given - used} values that {kind.__name__}'s loader leaves out; it is "
            "made for another model"
        )
    return found


def _values(weights: Mapping[str, Tensor], suffixes: tuple[str, ...]) -> int:
    """How many of the second factors' are not 0: converters cut them apart, and drop none."""
    return sum(int(own.count_nonzero()) for key, own in weights.items() if key.endswith(suffixes))
