"""Pictures as users have them: every mode and orientation is read, anything broken is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindsd.errors import RequestError
from mindsd.pipelines.picture import MAX_PIXELS, one_for_each, read_picture
from tests.zoo.cases import picture

UPSIDE_DOWN, TURNED_RIGHT = 3, 6  # values of the EXIF orientation tag
ORIENTATION = 0x0112


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode: str):
    read = read_picture(picture(1).convert(mode))
    assert read.mode == "RGB" and read.size == (32, 32)
    assert mode in ("1", "L") or np.abs(np.asarray(read, int) - np.asarray(picture(1))).mean() < 16


def test_transparent_parts_lie_on_white():
    source = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    source.putpixel((1, 0), (0, 0, 0, 0))
    read = read_picture(source)
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]


def test_a_transparent_colour_of_a_palette_lies_on_white(tmp_path: Path):
    source = Image.new("P", (2, 1))
    source.putpalette([10, 20, 30, 40, 50, 60])
    source.putpixel((1, 0), 1)
    source.save(tmp_path / "a.png", transparency=1)
    read = read_picture(tmp_path / "a.png")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


@pytest.mark.parametrize("turned", [UPSIDE_DOWN, TURNED_RIGHT])
def test_it_stands_upright_as_exif_says(tmp_path: Path, turned: int):
    source = picture(2).crop((0, 0, 32, 16))
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    source.save(tmp_path / "a.png", exif=exif)
    read = read_picture(tmp_path / "a.png")
    angle = {UPSIDE_DOWN: 180, TURNED_RIGHT: 270}[turned]
    assert np.array_equal(np.asarray(read), np.asarray(source.rotate(angle, expand=True)))
    assert read.getexif().get(ORIENTATION) is None


@pytest.mark.parametrize("values", [[0, 32768, 65535], [0, 128 * 257, 255 * 257]])
def test_sixteen_bits_keep_their_brightness(tmp_path: Path, values: list[int]):
    source = Image.fromarray(np.array([values], dtype=np.uint16))
    source.save(tmp_path / "a.png")
    for one in (source, tmp_path / "a.png"):
        grey = np.asarray(read_picture(one))[0, :, 0].astype(int)
        assert np.abs(grey - np.array(values) / 257).max() <= 1


def test_floating_point_numbers_are_refused():
    source = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    with pytest.raises(RequestError, match="floating-point"):
        read_picture(source)


def bytes_of(image: Image.Image, form: str) -> bytes:
    stream = BytesIO()
    image.save(stream, form)
    return stream.getvalue()


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be read as a picture"),
    "text": (b"not a picture at all", "cannot be read as a picture"),
    "cut PNG": (bytes_of(picture(1), "PNG")[:-200], "cannot be read as a picture"),
    "cut JPEG": (bytes_of(picture(1), "JPEG")[:-100], "cannot be read as a picture"),
    "large": (bytes_of(Image.new("1", (9000, 9000)), "PNG"), "81000000|9000x9000"),
    "bomb": (bytes_of(Image.new("1", (20000, 20000)), "PNG"), "400000000|20000x20000"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_sentence(tmp_path: Path, name: str):
    content, said = BROKEN[name]
    file = tmp_path / "picture"
    file.write_bytes(content)
    with pytest.raises(RequestError, match=said) as refused:
        read_picture(file)
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_no_file_is_refused(tmp_path: Path):
    with pytest.raises(RequestError, match="there is no picture at"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(RequestError, match="cannot be read as a picture"):
        read_picture(tmp_path)


def test_the_cap_holds_for_pictures_in_memory_too():
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(RequestError, match="pixels"):
        read_picture(Image.new("1", (side, side)))


def test_one_serves_all_or_one_for_each():
    a, b = picture(1), picture(2)
    assert one_for_each("picture", a, 4, 2) == [a] * 4
    assert one_for_each("picture", [a], 4, 2) == [a] * 4
    assert one_for_each("picture", [a, b], 4, 2) == [a, a, b, b]


@pytest.mark.parametrize("count", [0, 2, 4])
def test_other_numbers_are_refused(count: int):
    pictures: list[Any] = [picture(1)] * count
    with pytest.raises(RequestError, match=f"{count} masks for 3 prompts"):
        one_for_each("mask", pictures, 3, 1)
