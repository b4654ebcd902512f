"""LoRA adapters of a diffusers pipeline: linear and convolution layers of its denoiser and texts.

A layer with an adapter computes W x + scale * B A x (Hu et al., arXiv:2106.09685); of a convolution
A is one like its own with fewer channels, and B one of 1 x 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.errors import ModelError
from mindsd.weights.image_lora_file import read_lora_file
from mindsd.weights.lora import DTYPES, LoraLayer
from mindsd.weights.lora_options import WAY_OUT, LoraOptions

ENDS = {".lora_A.weight": "A", ".lora_B.weight": "B"}


def read_image_lora(path: str | Path, pipe: Any) -> dict[str, LoraLayer]:
    """An adapter's layers by the places of the pipeline's modules: `unet.conv_in`.

    Args:
        path: a .safetensors file, or a folder that diffusers' `save_lora_weights` wrote.
        pipe: the diffusers pipeline that it was trained for.

    Raises:
        ModelError: the file is not safe, more than plain LoRA, or made for another model.
        RequestError: the file has options of peft, and peft is not installed.
    """
    weights, told = read_lora_file(path, pipe)
    parts = _parts(path, weights, pipe)
    layers: dict[str, LoraLayer] = {}
    for component, pairs in parts.items():
        model = pipe.components[component]
        if any(getattr(own, "fused_projections", False) for own in model.modules()):
            raise ModelError(f"{component} has fused projections; unfuse them to load a LoRA")
        options = _options(path, component, told)
        for name, pair in pairs.items():
            rank = pair["A"].shape[0]
            if options is not None and not options.targets(name):
                raise ModelError(f"{path} has weights of {name}, which its options do not target")
            scale = _scale(path, name, rank, options)
            module = _module(path, component, model, name)
            layers[f"{component}.{name}"] = _layer(f"{path}", name, pair, module, scale)
    return layers


def _parts(
    path: str | Path, weights: Mapping[str, Tensor], pipe: Any
) -> dict[str, dict[str, dict[str, Tensor]]]:
    """A and B of every module, by component and name."""
    can = [name for name in pipe._lora_loadable_modules if pipe.components.get(name) is not None]
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for key, weight in weights.items():
        component, _, rest = key.partition(".")
        end = next((end for end in ENDS if rest.endswith(end)), None)
        if component not in can or end is None:
            kind = type(pipe).__name__
            raise ModelError(
                f"{path} holds {key}, which is for no part of a {kind} that takes a LoRA "
                f"({', '.join(can)}); it is made for another model"
            )
        name = rest.removesuffix(end)
        if not hasattr(pipe.components[component], "text_model"):
            name = name.removeprefix("text_model.")  # transformers' CLIP had this level once
        found.setdefault(component, {}).setdefault(name, {})[ENDS[end]] = weight
    return found


def _options(path: str | Path, component: str, told: Mapping[str, Any]) -> LoraOptions | None:
    own = {k.partition(".")[2]: v for k, v in told.items() if k.partition(".")[0] == component}
    return LoraOptions(path, {"peft_type": "LORA", **own}) if own else None


def _scale(path: str | Path, name: str, rank: int, options: LoraOptions | None) -> float:
    if options is None:
        return 1.0
    said, scale = options.rank_and_scale(name)
    if said != rank:
        raise ModelError(f"{path} has {name} of rank {rank}, and its options say {said}")
    return scale


def _module(path: str | Path, component: str, model: Any, name: str) -> nn.Linear | nn.Conv2d:
    """The layer of this name, one whose adapter is known to be what peft makes of it."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise ModelError(
            f"{path} adapts {name}, which this model's {component} does not have; it is made for "
            "another model"
        ) from None
    if not isinstance(module, nn.Linear | nn.Conv2d):
        raise ModelError(
            f"{path} adapts {name} of {component}, a {type(module).__name__} and no plain linear "
            f"or convolution layer; {WAY_OUT}"
        )
    if isinstance(module, nn.Conv2d):
        odd = (module.groups, module.padding_mode, *module.dilation) != (1, "zeros", 1, 1)
        if odd:
            raise ModelError(
                f"{path} adapts {name} of {component}, a convolution in groups, dilated or with "
                f"{module.padding_mode} padding; {WAY_OUT}"
            )
    return module


def _layer(
    path: str, name: str, pair: dict[str, Tensor], module: nn.Linear | nn.Conv2d, scale: float
) -> LoraLayer:
    rank = pair["A"].shape[0]
    if isinstance(module, nn.Linear):
        shapes = {"A": (rank, module.in_features), "B": (module.out_features, rank)}
    else:
        into = (rank, module.in_channels, *module.kernel_size)
        shapes = {"A": into, "B": (module.out_channels, rank, 1, 1)}
    for half, shape in shapes.items():
        if tuple(pair[half].shape) != shape:
            raise ModelError(
                f"{path} has lora_{half} of {name} with {list(pair[half].shape)} numbers, this "
                f"model needs {list(shape)}; it is made for another model"
            )
    weight: Any = module.weight
    dtype = weight.dtype if weight.dtype in DTYPES else torch.float32
    a = pair["A"].to(weight.device, dtype)
    b = (pair["B"].float() * scale).to(weight.device, dtype)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ModelError(f"{path} has values of {name} that are too large for {dtype}")
    return LoraLayer(a, b)
