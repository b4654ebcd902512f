"""Which sizes a model draws, and which one an image gets."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from diffusers import DiffusionPipeline

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters

DECODERS = ("vae", "movq", "vqvae", "vqgan")  # components that make pixels of latent cells
DEFAULT_SIDE = 1024  # pixels, for a model that says nowhere what it was made for


def sized(
    pipe: DiffusionPipeline,
    name: str,
    parameters: ImageParameters,
    given: tuple[int, int] | None = None,
) -> ImageParameters:
    """The parameters with width and height filled in.

    One side alone makes a square, or keeps the shape of a picture that comes along.

    Args:
        name: what people call the model.
        given: width and height of that picture; without sides asked, the image has its size.

    Raises:
        RequestError: the model cannot draw that size exactly.
    """
    width, height = parameters.width, parameters.height
    step, native = size_step(pipe), native_size(pipe)
    if width is None and height is None:
        width, height = given or (native, native)
    elif given and height is None:
        height = _nearest(given[1] / given[0] * (width or 0), step)
    elif given and width is None:
        width = _nearest(given[0] / given[1] * (height or 0), step)
    width, height = width or height, height or width
    assert width is not None and height is not None
    takes_size = "width" in inspect.signature(type(pipe).__call__).parameters
    if not given and not takes_size and (width, height) != (native, native):
        raise RequestError(
            f"{type(pipe).__name__} takes no size: it draws {native}x{native}; leave the size out"
        )
    if width % step or height % step:
        near = f"{_nearest(width, step)}x{_nearest(height, step)}"
        raise RequestError(
            f"{name} draws sizes divisible by {step}, not {width}x{height}; try {near}"
        )
    most = largest_side(pipe)
    if most is not None and max(width, height) > most:
        raise RequestError(
            f"{name} has places for {most}x{most} pixels at most, not for {width}x{height}"
        )
    return replace(parameters, width=width, height=height)


def largest_side(pipe: Any) -> int | None:
    """Pixels of the longest side that a model has positions for (SD3); None for no bound."""
    config = getattr(getattr(pipe, "transformer", None), "config", None)
    places = getattr(config, "pos_embed_max_size", None)
    return places * config.patch_size * _scale(pipe) if places and config is not None else None


def native_size(pipe: Any) -> int:
    """Pixels of a side that the model was made for."""
    scale = _scale(pipe) if any(hasattr(pipe, part) for part in DECODERS) else 1
    scale = int(getattr(pipe, "movq_scale_factor", scale))
    for part in ("unet", "transformer", "prior"):
        config = getattr(getattr(pipe, part, None), "config", None)
        side = getattr(config, "sample_size", None)
        if isinstance(side, int) and side:
            return side * scale
    side = getattr(pipe, "default_sample_size", None)
    return int(side) * scale if side else DEFAULT_SIDE


def size_step(pipe: Any) -> int:
    """What width and height must be divisible by: latent cells, in pairs for patched models."""
    if hasattr(pipe, "_pack_latents"):  # Flux and Qwen-Image pack 2x2 cells into a token
        return max(8, _scale(pipe) * 2)
    config = getattr(getattr(pipe, "transformer", None), "config", None)
    patch = getattr(config, "patch_size", None) or getattr(config, "all_patch_size", None) or 1
    return max(8, _scale(pipe) * (patch if isinstance(patch, int) else patch[-1]))


def _scale(pipe: Any) -> int:
    if hasattr(pipe, "movq_scale_factor"):  # Kandinsky rounds up to the square of it
        return int(pipe.movq_scale_factor) ** 2
    return int(getattr(pipe, "vae_scale_factor", 8))


def _nearest(side: float, step: int) -> int:
    return max(step, round(side / step) * step)
