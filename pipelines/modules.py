"""A pipeline's heavy modules, made batchable; the pipeline class need not be known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any

import torch

from mindsd.batching.call import TIMES
from mindsd.batching.coroutine import is_batchable, make_batchable
from mindsd.stepcache.advice import FACTOR
from mindsd.wrap import Wrap, wrap, wraps_of

HELPERS = ("ControlNet", "Adapter")  # called once a step too, but only to advise the denoiser


def open_modules(components: Mapping[str, Any], rounded: Container[str] = ()) -> list[Wrap]:
    """Make every component that holds weights batchable; remove the wraps in reversed order.

    Args:
        rounded: names of those that compute in 8 bits.
    """
    opened = (_open(name, part, name in rounded) for name, part in modules(components).items())
    return [own for wraps in opened for own in wraps]


def modules(components: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    """The components that hold weights, by name."""
    return {name: part for name, part in components.items() if isinstance(part, torch.nn.Module)}


def find_open(components: Mapping[str, Any]) -> set[str]:
    """The names of components that are open to an engine already."""
    return {
        name
        for name, part in modules(components).items()
        for owner in (part, getattr(part, "encoder", None), getattr(part, "decoder", None))
        if isinstance(owner, torch.nn.Module) and is_batchable(owner)
    }


def is_accelerated(pipe: Any) -> bool:
    """Whether its scheduler is followed; copies of that would drive the original."""
    scheduler = getattr(pipe, "scheduler", None)
    return scheduler is not None and any(wraps_of(scheduler))


def find_denoisers(components: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    """The modules that are called once a step and make the prediction, by name."""
    return {
        name: part
        for name, part in modules(components).items()
        if _kind(name) == "denoise"
        and not _helps(part)
        and any(_accepts(part.forward, time) for time in TIMES)
    }


def find_advisers(components: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    """The modules whose advice to the denoiser has a factor that may change on the way, by name."""
    return {
        name: part
        for name, part in modules(components).items()
        if _helps(part) and _accepts(part.forward, FACTOR)
    }


def _helps(part: torch.nn.Module) -> bool:
    return any(word in type(part).__name__ for word in HELPERS)


def _open(name: str, part: torch.nn.Module, rounded: bool) -> list[Wrap]:
    encoder, decoder = getattr(part, "encoder", None), getattr(part, "decoder", None)
    if not (hasattr(part, "decode") and isinstance(decoder, torch.nn.Module)):
        cacheless = _kind(name) == "text" and _accepts(part.forward, "use_cache")
        below = [wrap(part, "forward", _without_cache)] if cacheless else []
        return [*below, make_batchable(part, "forward", _kind(name), name, rounded)]
    if _accepts(decoder.forward, "feat_cache"):
        # Video autoencoders keep state on the module between frames: only a whole decode is pure.
        return [make_batchable(part, "decode", "image", name)]
    halves = [half for half in (encoder, decoder) if isinstance(half, torch.nn.Module)]
    return [make_batchable(half, "forward", "image", name) for half in halves]


def _accepts(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def _without_cache(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A prompt's keys and values are never read again, and cannot be divided into rows."""
    return original(*args, **{"use_cache": False, **kwargs})


def _kind(name: str) -> str:
    if name.startswith("text_encoder"):
        return "text"
    return "image" if name in ("image_encoder", "safety_checker") else "denoise"
