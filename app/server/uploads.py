"""Pictures that clients send: caps before anything is decoded, three decoders, fixed words.

Whoever calls `read_upload` does so on a thread: decoding takes time, and memory of about 16 bytes a
pixel while it lasts.
"""

from __future__ import annotations

import re
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

from PIL import Image

from mindsd.pipelines.picture import read_picture

from .refusal import Refusal

MAX_BYTES = 32 * 2**20  # of a file
MAX_PIXELS = 32 * 10**6  # Pillow opens up to 179 million, which would take 800 MB
MAX_URL = MAX_BYTES * 4 // 3 + 64  # characters of a data URL
DECODERS = ThreadPoolExecutor(2, "decode")  # pictures at a time: each may take 0.5 GiB
FORMATS = ("PNG", "JPEG", "WEBP")
DATA_URL = re.compile(r"data:image/(?:png|jpe?g|webp);base64,", re.IGNORECASE)

NO_PICTURE = Refusal(400, "invalid_image", "the image is no PNG, JPEG or WebP, or it is broken")
NO_DATA_URL = Refusal(
    400, "invalid_image_url", "an image URL begins data:image/png;base64, (or jpeg, webp)"
)
NO_BASE64 = Refusal(
    400, "invalid_image_url", "what follows base64, in the image URL is not base64, or is cut off"
)
TOO_LONG = Refusal(413, "image_too_large", f"the image has over {MAX_BYTES // 2**20} MiB")
TOO_WIDE = Refusal(
    413, "image_too_large", f"the image has over {MAX_PIXELS // 10**6} million pixels; shrink it"
)


def read_upload(data: bytes) -> Image.Image:
    """A picture as RGB, upright as its EXIF data says, transparent parts on white, its first frame.

    Raises:
        Refusal: it is none that is taken (400), or too large (413).
    """
    if len(data) > MAX_BYTES:
        raise replace(TOO_LONG)
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise replace(TOO_WIDE)
            return read_picture(opened)
    except Refusal:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise replace(TOO_WIDE) from None
    except Exception:  # decoders of broken files raise what they like
        raise replace(NO_PICTURE) from None


def read_data_url(url: str) -> bytes:
    """What a data URL of a picture holds.

    Raises:
        Refusal: it is no such URL (400), or too long (413).
    """
    if len(url) > MAX_URL:
        raise replace(TOO_LONG)
    begun = DATA_URL.match(url)
    if begun is None:
        raise replace(NO_DATA_URL)
    try:
        return b64decode(url[begun.end() :], validate=True)
    except ValueError:
        raise replace(NO_BASE64) from None
