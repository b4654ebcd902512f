"""Pictures that users give: opened, turned upright, made RGB, or refused in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mindsd.errors import RequestError

Picture = Image.Image | str | Path | bytes
MAX_PIXELS = 64 * 2**20


def read_picture(source: Picture) -> Image.Image:
    """A picture as RGB, upright as its EXIF data says, transparent parts on white.

    Args:
        source: a PIL image, a path, or what a file of a picture holds.

    Raises:
        RequestError: there is no such file, it is no picture, is cut short or over 64 Mi pixels.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    file = BytesIO(source) if isinstance(source, bytes) else source
    source = f"a picture of {len(source)} bytes" if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap is lower
            with Image.open(file) as opened:
                _check_size(opened)
                return _to_rgb(opened)
    except Image.DecompressionBombError as error:
        raise RequestError(f"{source} is too large to open ({error})") from None
    except FileNotFoundError:
        raise RequestError(f"there is no picture at {source}") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{source} cannot be read as a picture ({error})") from None


def fit_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at (width, height) pixels; as it is when it has that size."""
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def first_image(result: Any) -> Image.Image:
    """The first image of what a pipeline returned, in whatever form."""
    images = getattr(result, "images", result)
    while isinstance(images, tuple | list):
        images = images[0]
    return images


def one_for_each(
    what: str, pictures: Picture | Sequence[Picture], images: int, images_per_prompt: int
) -> list[Picture]:
    """One picture for each image: the same one for all, or one for each prompt.

    Raises:
        RequestError: there are neither one nor as many as prompts.
    """
    if not isinstance(pictures, Picture | list | tuple):
        kind = type(pictures).__name__
        raise RequestError(f"a {what} is a PIL image or a path to a file, got {kind}")
    given = [pictures] if isinstance(pictures, Picture) else list(pictures)
    prompts = images // images_per_prompt
    if len(given) == 1:
        return given * images
    if len(given) != prompts:
        raise RequestError(f"{len(given)} {what}s for {prompts} prompts; give one, or one for each")
    return [picture for picture in given for _ in range(images_per_prompt)]


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise RequestError(f"a picture of {width}x{height} has over {MAX_PIXELS} pixels; shrink it")


def _to_rgb(picture: Image.Image) -> Image.Image:
    _check_size(picture)
    upright = _to_8_bits(ImageOps.exif_transpose(picture))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        upright = Image.alpha_composite(white, rgba)
    return upright.convert("RGB")


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Pillow alone would cut brighter values off instead of scaling them."""
    if picture.mode == "F":
        raise RequestError("a picture of floating-point numbers has no white; make it 8 or 16 bits")
    if picture.mode != "I" and not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
