"""What a picture is written as: the format of its file, the quality, and whether it says how it was
made."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mindsd.errors import RequestError

from .picture_record import Record

# Format -> what Pillow calls it, the ending of its files, and most pixels of a side.
FORMATS = {
    "png": ("PNG", "png", 2**31 - 1),
    "jpeg": ("JPEG", "jpg", 65_500),
    "webp": ("WEBP", "webp", 16_383),
}
QUALITY = 95
MAX_EXIF = 65_533  # bytes that a segment of a JPEG file holds


@dataclass(frozen=True)
class PictureEncoding:
    """How to write pictures.

    Attributes:
        format: "png", "jpeg" or "webp".
        quality: 1 to 100, of a jpeg or webp; None for 95.
        metadata: whether files say how they were made.
    """

    format: str = "png"
    quality: int | None = None
    metadata: bool = True

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise RequestError(f"unknown format {self.format!r}; choose {', '.join(FORMATS)}")
        if self.quality is None:
            return
        if self.format == "png":
            raise RequestError("--quality is for --format jpeg or webp: a png loses nothing")
        if not 1 <= self.quality <= 100:
            raise RequestError(f"--quality must be 1 to 100, got {self.quality}")

    @property
    def ending(self) -> str:
        """Of the files' names, without a dot."""
        return FORMATS[self.format][1]

    def encode(self, picture: Image.Image, record: Record | None = None) -> bytes:
        """The bytes of a file, with the record in it unless `metadata` is off."""
        told = record.as_texts() if record is not None and self.metadata else None
        options: dict[str, Any] = {}
        if self.format != "png":
            picture = picture.convert("RGB")
            options = {"quality": QUALITY if self.quality is None else self.quality}
        if told is not None and self.format == "png":
            options["pnginfo"] = told.as_chunks()
        elif told is not None:
            options["exif"] = told.as_exif()
        buffer = io.BytesIO()
        picture.save(buffer, FORMATS[self.format][0], **options)
        return buffer.getvalue()

    def check(self, record: Record) -> None:
        """See before drawing that the picture of this record can be written.

        Raises:
            RequestError: it is too large for the format, or its record for a JPEG's.
        """
        width, height = record.parameters.width or 0, record.parameters.height or 0
        most = FORMATS[self.format][2]
        if max(width, height) > most:
            raise RequestError(
                f"a {self.format} has at most {most} pixels a side, not {width}x{height}; "
                "use --format png"
            )
        if self.format != "jpeg" or not self.metadata:
            return
        size = len(record.as_texts().as_exif().tobytes())
        if size > MAX_EXIF:
            raise RequestError(
                f"what a jpeg says of how it was made fits in {MAX_EXIF} bytes, and this is "
                f"{size}; use --format png or webp, or --no-metadata"
            )


PNG = PictureEncoding()
