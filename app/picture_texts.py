"""The two texts that a picture file carries, Automatic1111's and our own: where they lie, and how
they are written and read.

A PNG holds them in its chunks `parameters` and `mindsd`. JPEG and WebP hold them in their EXIF
data: Automatic1111's as UserComment in UTF-16, where everybody looks for it, and ours, which is
ASCII, as MakerNote behind the word "mindsd".
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

from mindsd.errors import RequestError

FORMATS = ("PNG", "JPEG", "WEBP")  # no other decoder sees a file that anyone may have sent
MAX_FILE = 2**28  # bytes; 64 Mi pixels that are not compressed are less
MAX_TEXT = 2**20  # characters; also the most that Pillow unpacks of one chunk
THEIRS, OURS = "parameters", "mindsd"
NOTE = b"mindsd\0"
SHEET = '{"sheet": true}'  # ours of what shows many pictures, and is none of them
UNICODE, ASCII = b"UNICODE\0", b"ASCII\0\0\0"


@dataclass(frozen=True)
class PictureTexts:
    """What lies in a file, as it is; None for what does not."""

    theirs: str | None = None
    ours: str | None = None

    def as_chunks(self) -> PngInfo:
        info = PngInfo()
        for name, text in ((THEIRS, self.theirs), (OURS, self.ours)):
            if text is not None:
                # add_text keeps Latin-1 as tEXt and turns to iTXt, UTF-8, for everything else.
                info.add_text(name, text)
        return info

    def as_exif(self) -> Image.Exif:
        exif = Image.Exif()
        details = exif.get_ifd(IFD.Exif)
        if self.theirs is not None:
            details[Base.UserComment] = UNICODE + self.theirs.encode("utf_16_be")
        if self.ours is not None:
            details[Base.MakerNote] = NOTE + self.ours.encode("ascii")
        return exif


def read_texts(file: str | Path) -> PictureTexts:
    """The texts of a PNG, JPEG or WebP file. No pixel is decoded.

    Raises:
        RequestError: it cannot be opened as a picture, or is too large.
    """
    try:
        size = os.stat(file).st_size
        if not os.path.isfile(file):  # a pipe may never end
            raise RequestError(f"{file} is no file of a picture")
        if size > MAX_FILE:
            raise RequestError(f"{file} has over {MAX_FILE >> 20} MiB; that is no picture of ours")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels and odd EXIF data: none is decoded
            with Image.open(file, formats=FORMATS) as picture:
                return _texts(picture)
    except (RequestError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        said = "of no kind that is known: PNG, JPEG or WebP"
        raise RequestError(f"{file} cannot be read as a picture ({said})") from None
    except OSError as error:
        said = error.strerror or str(error)
        raise RequestError(f"{file} cannot be read as a picture ({said})") from None
    except Exception as error:  # decoders of broken files raise what they like
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise RequestError(f"{file} cannot be read as a picture ({said})") from None


def is_sheet(file: str | Path) -> bool:
    """Whether it is a contact sheet or a grid that was written by ourselves."""
    try:
        return read_texts(file).ours == SHEET
    except RequestError:
        return False


def _texts(picture: Image.Image) -> PictureTexts:
    theirs, ours = picture.info.get(THEIRS), picture.info.get(OURS)
    if picture.format != "PNG":  # for whose EXIF data Pillow would decode the pixels
        details = picture.getexif().get_ifd(IFD.Exif)
        theirs = _comment(details.get(Base.UserComment))
        ours = _note(details.get(Base.MakerNote))
    return PictureTexts(_bounded(theirs), _bounded(ours))


def _bounded(text: object) -> str | None:
    return str(text) if isinstance(text, str) and len(text) <= MAX_TEXT else None


def _comment(value: object) -> str | None:
    """A UserComment: eight bytes say what encodes it. UTF-16 is big-endian, but not everywhere."""
    if not isinstance(value, bytes):
        return None
    kind, text = value[:8], value[8:]
    if kind == UNICODE:
        little = text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf_16_le" if little else "utf_16_be", "replace")
    return text.decode("utf-8", "replace") if kind in (ASCII, bytes(8)) else None


def _note(value: object) -> str | None:
    if not isinstance(value, bytes) or not value.startswith(NOTE):
        return None
    return value.removeprefix(NOTE).decode("ascii", "replace")
