"""The texts in picture files of any origin: found where others put them, and never trusted."""

import os
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from mindsd.app.picture_texts import MAX_TEXT, PictureTexts, read_texts
from mindsd.errors import RequestError

PICTURE = Image.new("RGB", (4, 3), "red")
TEXT = "a ★ fox\nSteps: 1, Seed: 2, Size: 8x8"


def png(*chunks, size=(1, 1)):
    """A PNG of these chunks (name, content) before pixels that are missing."""
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", b""), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.fixture
def saved(tmp_path):
    def save(content):
        file = tmp_path / "a.picture"
        file.write_bytes(content)
        return file

    return save


def commented(file, value, kind):
    exif = Image.Exif()
    exif.get_ifd(IFD.Exif)[Base.UserComment] = value
    PICTURE.save(file, kind, exif=exif)
    return file


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "value",
    [
        b"UNICODE\0" + TEXT.encode("utf_16_be"),  # as Automatic1111 does, by piexif
        b"UNICODE\0" + TEXT.encode("utf_16_le"),  # as others do
        bytes(8) + TEXT.encode(),
    ],
)
def test_comments_of_others_are_read(value, kind, tmp_path):
    file = commented(tmp_path / "a", value, kind)
    assert read_texts(file) == PictureTexts(theirs=TEXT)


@pytest.mark.parametrize("value", [b"", b"UNICODE\0", b"JIS\0\0\0\0\0abc", b"short"])
def test_comments_that_say_nothing(value, tmp_path):
    assert not read_texts(commented(tmp_path / "a", value, "JPEG")).theirs


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 2**28)),
        (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"a" * 2**28)),
        (b"iCCP", b"a\0\0" + zlib.compress(b"a" * 2**28)),
    ],
    ids=["zTXt", "iTXt", "iCCP"],
)
def test_what_unpacks_to_256_mib_is_never_unpacked(chunk, saved):
    file = saved(png(chunk))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="cannot be read as a picture"):
            read_texts(file)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**24


def test_a_text_that_is_too_long_counts_as_absent(saved):
    longest = b"parameters\0" + b"a" * MAX_TEXT
    assert read_texts(saved(png((b"tEXt", longest)))).theirs == "a" * MAX_TEXT
    assert read_texts(saved(png((b"tEXt", longest + b"a")))) == PictureTexts()


@pytest.mark.parametrize("chunks", [[(b"tEXt", b"parameters\0a")], []])
def test_no_pixel_is_decoded(chunks, saved):
    file = saved(png(*chunks, size=(13_000, 13_000)))
    assert read_texts(file) == PictureTexts(theirs="a" if chunks else None)


@pytest.mark.filterwarnings("error")
def test_more_pixels_than_anyone_has_are_refused(saved):
    with pytest.raises(RequestError, match="exceeds limit"):
        read_texts(saved(png(size=(2**20, 2**20))))


def test_a_file_that_is_too_large_is_not_opened(saved):
    file = saved(png())
    os.truncate(file, 2**28 + 1)  # a sparse one
    with pytest.raises(RequestError, match="over 256 MiB"):
        read_texts(file)


@pytest.mark.parametrize("content", [b"", b"no picture", b"GIF89a" + bytes(40), b"%!PS-Adobe"])
def test_other_kinds_are_refused(content, saved):
    with pytest.raises(RequestError, match="of no kind that is known: PNG, JPEG or WebP"):
        read_texts(saved(content))


def test_pictures_of_other_kinds_are_refused(tmp_path):
    PICTURE.save(tmp_path / "a.gif")
    with pytest.raises(RequestError, match="of no kind that is known"):
        read_texts(tmp_path / "a.gif")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(RequestError, match="is no file of a picture"):
            read_texts(tmp_path / name)
    with pytest.raises(RequestError, match="No such file"):
        read_texts(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_torn_file_is_refused_or_says_less(kind, tmp_path):
    whole = commented(tmp_path / "whole", b"UNICODE\0" + TEXT.encode("utf_16_be"), kind)
    content = whole.read_bytes()
    for length in range(len(content)):
        (tmp_path / "torn").write_bytes(content[:length])
        try:
            assert read_texts(tmp_path / "torn").theirs in (None, "", TEXT)
        except RequestError:
            continue
