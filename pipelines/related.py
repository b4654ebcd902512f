"""A pipeline for one purpose to that for another, on the same weights."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline

from mindsd.errors import ModelError


def related(auto: Any, pipe: DiffusionPipeline, purpose: str) -> DiffusionPipeline:
    """The diffusers pipeline for another purpose that shares `pipe`'s weights.

    Raises:
        ModelError: diffusers has none for this pipeline class.
    """
    try:
        return auto.from_pipe(pipe)
    except ValueError as error:
        raise ModelError(f"{type(pipe).__name__} has no {purpose} form in diffusers") from error
