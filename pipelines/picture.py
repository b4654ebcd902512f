"""Pictures that users give: opened, turned upright, made RGB, or refused in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mindsd.errors import RequestError

Picture = Image.Image | str | Path | bytes
MAX_PIXELS = 64 * 2**20
DRAWINGS = ("EPS", "WMF")  # for which Pillow would start another program


def read_picture(source: Picture) -> Image.Image:
    """A picture as RGB, upright as its EXIF data says, transparent parts on white; of several
    frames the first.

    Args:
        source: a PIL image, a path, or what a file of a picture holds.

    Raises:
        RequestError: there is no such file, it is no picture, is cut short or over 64 Mi pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap is lower
            if isinstance(source, Image.Image):
                return _to_rgb(source)
            if not isinstance(source, bytes) and Path(source).exists() and not _is_file(source):
                raise RequestError(f"{source} is no file of a picture")
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
                return _to_rgb(opened)
    except (RequestError, MemoryError):
        raise
    except FileNotFoundError:
        raise RequestError(f"there is no picture at {source}") from None
    except Exception as error:  # decoders of broken files raise what they like
        raise RequestError(_refusal(source, error)) from None


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


def _is_file(path: str | Path) -> bool:
    """No folder, and no pipe or device, which may never end."""
    return Path(path).is_file()


def _refusal(source: Any, error: Exception) -> str:
    named = source
    if isinstance(source, bytes | Image.Image):
        held = f"{len(source)} bytes" if isinstance(source, bytes) else "{}x{}".format(*source.size)
        named = f"a picture of {held}"
    if isinstance(error, UnidentifiedImageError):  # its own words name an object in memory
        return f"{named} cannot be read as a picture (of no kind that is known)"
    first = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"{named} is too large to open ({first})"
    return f"{named} cannot be read as a picture ({first})"


def _check(picture: Image.Image) -> None:
    """Before anything of it is decoded."""
    if picture.format in DRAWINGS:
        raise RequestError(f"a drawing of kind {picture.format} has no pixels; make it a PNG")
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise RequestError(f"a picture of {width}x{height} has over {MAX_PIXELS} pixels; shrink it")


def _to_rgb(picture: Image.Image) -> Image.Image:
    _check(picture)
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
