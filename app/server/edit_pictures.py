"""The picture and the mask of an edit.

OpenAI draws anew what is transparent in a mask, A1111 and we what is white. A mask in which
something is transparent is read as OpenAI's, every other one as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from PIL import Image, ImageOps

from .refusal import Refusal, about
from .uploads import FORMATS, read_upload

HALF = 128  # the darkest that diffusers counts as white


def read_pictures(files: Mapping[str, bytes]) -> dict[str, Image.Image]:
    """The pictures of "image" and "mask_image", of which either may be missing.

    Raises:
        Refusal: one cannot be read, or the mask is not of the picture's size or marks nothing.
    """
    found: dict[str, Image.Image] = {}
    if "image" in files:
        with about("image"):
            found["image"] = read_upload(files["image"])
    if "mask_image" in files:
        with about("mask"):
            mask = found["mask_image"] = read_mask(files["mask_image"])
        if mask.size != found["image"].size:
            sizes = "the mask is {}x{}, the image {}x{}".format(*mask.size, *found["image"].size)
            raise Refusal(400, "invalid_mask", f"{sizes}; make them alike", "mask")
    return found


def read_mask(data: bytes) -> Image.Image:
    """A mask as RGB: white is drawn anew.

    Raises:
        Refusal: it cannot be read, or nothing of it is marked.
    """
    shown = read_upload(data)  # first, for it knows what is safe to open
    with Image.open(BytesIO(data), formats=FORMATS) as opened:
        upright = ImageOps.exif_transpose(opened)
        seen_through = _transparency(upright)
    mask = shown if seen_through is None else Image.merge("RGB", [seen_through] * 3)
    marked = mask.convert("L").point([0] * HALF + [255] * (256 - HALF))
    if marked.getbbox() is None:
        said = "nothing of the mask is transparent or white, so nothing would be drawn"
        raise Refusal(400, "invalid_mask", said, "mask")
    return mask


def _transparency(picture: Image.Image) -> Image.Image | None:
    """How transparent each pixel is (L); None where nothing is."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return None
    found = ImageOps.invert(picture.convert("RGBA").getchannel("A"))
    return None if found.getbbox() is None else found
