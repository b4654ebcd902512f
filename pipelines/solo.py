"""Which requests must be drawn alone: those whose pipeline changes what others compute with.

The engine runs such a request in one go, while all others are suspended.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from diffusers import DiffusionPipeline

# What only users call: switches of every pipeline, loaders of adapters.
GENERAL = ("diffusers.pipelines.pipeline_utils", "diffusers.loaders", "builtins")
# diffusers' names for the arguments that reach attention processors; adapters read "scale" there.
ATTENTION_OPTIONS = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")


def why_solo(pipe: DiffusionPipeline, options: Mapping[str, Any]) -> str | None:
    """Why a request with these options cannot share forwards; None when it can."""
    said = words(type(pipe))
    if hasattr(type(pipe), "_set_pag_attn_processor") or "set_attn_processor" in said:
        return "the pipeline exchanges attention processors while it draws"
    if said & {"register_forward_hook", "register_forward_pre_hook"} and said & {"remove"}:
        return "the pipeline puts hooks on its modules while it draws"
    if "enable_fuser" in said:
        return "the pipeline switches parts of its denoiser on and off while it draws"
    if any(getattr(part, "is_cache_enabled", False) for part in pipe.components.values()):
        return "a diffusers cache is enabled on it, which keeps no state per request"
    if getattr(pipe, "_all_hooks", None):
        return "the pipeline is offloaded by hooks"
    if _scales_text_adapter(pipe, options):
        return "a LoRA scale is set on the text encoder while the prompt is encoded"
    return None


@lru_cache(maxsize=64)
def words(kind: type) -> frozenset[str]:
    """Every global and attribute that a pipeline's own code mentions (not diffusers' base's)."""
    own = [parent for parent in kind.__mro__ if not parent.__module__.startswith(GENERAL)]
    functions = (inspect.unwrap(f) for parent in own for f in vars(parent).values())
    codes = [f.__code__ for f in functions if inspect.isfunction(f)]
    return frozenset(name for code in codes for name in code.co_names)


@contextmanager
def restored(pipe: DiffusionPipeline) -> Iterator[None]:
    """What pipelines undo only at their normal end is undone whatever happens inside."""
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    layers = [layer for part in parts for layer in part.modules()]
    processors = {layer: layer.processor for layer in layers if hasattr(layer, "processor")}
    adapted: list[Any] = [layer for layer in layers if _has_scaling(layer)]
    scalings = {layer: dict(layer.scaling) for layer in adapted}
    try:
        yield
    finally:
        for layer, processor in processors.items():
            if layer.processor is not processor:
                layer.processor = processor
        for layer, scaling in scalings.items():
            layer.scaling.update(scaling)
        for part in parts:
            if callable(reset := getattr(part, "_reset_stateful_cache", None)):
                reset()


def _has_scaling(layer: Any) -> bool:
    return hasattr(layer, "lora_A") and isinstance(getattr(layer, "scaling", None), dict)


def _scales_text_adapter(pipe: DiffusionPipeline, options: Mapping[str, Any]) -> bool:
    asked = [options.get(name) or {} for name in ATTENTION_OPTIONS]
    if not any("scale" in own for own in asked):
        return False
    encoders = (part for name, part in pipe.components.items() if name.startswith("text_encoder"))
    return any(_has_adapter(part) for part in encoders if isinstance(part, torch.nn.Module))


def _has_adapter(module: torch.nn.Module) -> bool:
    """peft's layers keep their matrices under this name."""
    return any(hasattr(layer, "lora_A") for layer in module.modules())
