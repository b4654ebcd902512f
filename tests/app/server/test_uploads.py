"""Pictures that clients send: what is taken, how it is seen, and with which words it is refused."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from io import BytesIO

import numpy as np
import psutil
import pytest
from PIL import Image

from mindsd.app.server import uploads
from mindsd.app.server.refusal import INSIDE, Refusal
from mindsd.app.server.uploads import MAX_URL, read_data_url, read_upload

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def file_of(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pixel(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    return tuple(np.asarray(picture)[y, x].tolist())


def refused(data: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_upload(data)
    assert not INSIDE.search(str(caught.value)) and "PIL" not in str(caught.value)
    return caught.value


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(side: int) -> bytes:
    """A white PNG of one bit a pixel: hundreds of megapixels in a few kilobytes."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(b"\0" * (side // 8 + 2)) for _ in range(side)) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_kinds_are_read_as_rgb(kind: str):
    seen = read_upload(file_of(Image.new("RGB", (9, 5), RED), kind))
    assert (seen.mode, seen.size) == ("RGB", (9, 5))
    assert max(abs(a - b) for a, b in zip(pixel(seen, 4, 2), RED, strict=True)) < 4


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "JPEG2000", "PDF", "EPS"])
def test_other_kinds_are_refused_though_pillow_writes_them(kind: str):
    assert refused(file_of(Image.new("RGB", (32, 32), RED), kind)).status == 400


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        file_of(Image.effect_noise((64, 64), 50))[:900],
        file_of(Image.effect_noise((64, 64), 50), "JPEG")[:700],
        file_of(Image.effect_noise((64, 64), 50), "WEBP")[:300],
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 99, 9, 9, 9, 9)),
    ],
    ids=["empty", "text", "svg", "cut png", "cut jpeg", "cut webp", "no such depth"],
)
def test_broken_pictures_are_refused_in_fixed_words(data: bytes):
    told = refused(data)
    assert (told.status, told.code, str(told)) == (400, "invalid_image", str(uploads.NO_PICTURE))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [6000, 13000, 20000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int):
    data = bomb(side)
    assert len(data) < 300_000
    before = psutil.Process().memory_info().rss
    assert refused(data).status == 413
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


def test_a_bomb_just_within_pillows_own_bounds_is_refused_by_ours():
    side = int((uploads.MAX_PIXELS + 1) ** 0.5) + 1
    assert refused(bomb(side)).code == "image_too_large"
    assert read_upload(bomb(1000)).size == (1000, 1000)


def test_too_many_bytes_are_refused_unread():
    told = refused(b"\x89PNG\r\n\x1a\n" + b"\0" * uploads.MAX_BYTES)
    assert (told.status, "32 MiB" in str(told)) == (413, True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_it_is_turned_upright(kind: str):
    """CVE-2026-12491: what the model sees is what the person sees."""
    picture = Image.new("RGB", (32, 16), BLUE)
    picture.paste(RED, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    seen = read_upload(file_of(picture, kind, exif=exif))
    assert seen.size == (16, 32)
    assert pixel(seen, 8, 4)[0] > 200 and pixel(seen, 8, 28)[2] > 200


def test_transparent_parts_are_white():
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (*GREEN, 255))
    seen = read_upload(file_of(clear))
    assert [pixel(seen, 0, 0), pixel(seen, 1, 0)] == [WHITE, GREEN]
    keyed = Image.new("RGB", (2, 1), RED)
    keyed.putpixel((1, 0), GREEN)
    seen = read_upload(file_of(keyed, transparency=RED))  # tRNS
    assert [pixel(seen, 0, 0), pixel(seen, 1, 0)] == [WHITE, GREEN]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_it_is_the_first_frame(kind: str):
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = file_of(first, kind, save_all=True, append_images=[second], **lossless)
    assert pixel(read_upload(data), 4, 4) == RED


def test_one_pixel_is_a_picture():
    assert read_upload(file_of(Image.new("RGB", (1, 1), RED))).size == (1, 1)


@pytest.mark.parametrize("kind", ["png", "jpeg", "jpg", "webp", "PNG"])
def test_data_urls_are_read(kind: str):
    assert read_data_url(f"data:image/{kind};base64,{b64encode(b'held').decode()}") == b"held"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://localhost/x.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png,abc",
        "data:text/html;base64,aGVsZA==",
        "data:image/svg+xml;base64,aGVsZA==",
        "data:image/png;charset=x;base64,aGVsZA==",
        " data:image/png;base64,aGVsZA==",
    ],
)
def test_other_urls_are_refused_in_fixed_words(url: str):
    with pytest.raises(Refusal) as caught:
        read_data_url(url)
    assert (caught.value.status, str(caught.value)) == (400, str(uploads.NO_DATA_URL))


@pytest.mark.parametrize("held", ["aGV sZA==", "aGVsZA", "äöü=", "\0", "@@@@"])
def test_what_is_no_base64_is_said_to_be_none(held: str):
    with pytest.raises(Refusal) as caught:
        read_data_url(f"data:image/png;base64,{held}")
    assert (caught.value.status, str(caught.value)) == (400, str(uploads.NO_BASE64))


def test_a_data_url_that_is_too_long_is_refused_before_it_is_decoded():
    with pytest.raises(Refusal) as caught:
        read_data_url("data:image/png;base64," + "A" * MAX_URL)
    assert caught.value.status == 413
