"""Which requests must be drawn alone: those whose pipeline changes what others compute with.

The engine runs such a request in one go, while all others are suspended.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline

# diffusers' names for the arguments that reach attention processors; adapters read "scale" there.
ATTENTION_OPTIONS = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")


def why_solo(pipe: DiffusionPipeline, options: Mapping[str, Any]) -> str | None:
    """Why a request with these options cannot share forwards; None when it can."""
    kinds = type(pipe).__mro__
    calls = [vars(kind)["__call__"] for kind in kinds if "__call__" in vars(kind)]
    said = {name for call in calls for name in inspect.unwrap(call).__code__.co_names}
    if hasattr(type(pipe), "_set_pag_attn_processor") or "set_attn_processor" in said:
        return "the pipeline exchanges attention processors while it draws"
    if any(getattr(part, "is_cache_enabled", False) for part in pipe.components.values()):
        return "a diffusers cache is enabled on it, which keeps no state per request"
    if getattr(pipe, "_all_hooks", None):
        return "the pipeline is offloaded by hooks"
    if _scales_text_adapter(pipe, options):
        return "a LoRA scale is set on the text encoder while the prompt is encoded"
    return None


def _scales_text_adapter(pipe: DiffusionPipeline, options: Mapping[str, Any]) -> bool:
    asked = [options.get(name) or {} for name in ATTENTION_OPTIONS]
    if not any("scale" in own for own in asked):
        return False
    encoders = (part for name, part in pipe.components.items() if name.startswith("text_encoder"))
    return any(_has_adapter(part) for part in encoders if isinstance(part, torch.nn.Module))


def _has_adapter(module: torch.nn.Module) -> bool:
    """peft's layers keep their matrices under this name."""
    return any(hasattr(layer, "lora_A") for layer in module.modules())
