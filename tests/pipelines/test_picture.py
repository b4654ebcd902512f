"""Pictures as users have them: every mode and orientation is read, anything broken is refused."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

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


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
EPS = bytes_of(picture(1), "EPS")
BROKEN |= {
    "SVG": (SVG, "of no kind that is known"),
    "EPS": (EPS, "a drawing of kind EPS"),
    "cut GIF": (bytes_of(picture(1), "GIF")[:-300], "cannot be read as a picture"),
    "cut WebP": (bytes_of(picture(1), "WEBP")[:-40], "cannot be read as a picture"),
    "cut TIFF": (bytes_of(picture(1), "TIFF")[:300], "cannot be read as a picture"),
    "PDF": (bytes_of(picture(1), "PDF"), "of no kind that is known"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_sentence(tmp_path: Path, name: str):
    content, said = BROKEN[name]
    file = tmp_path / "picture"
    file.write_bytes(content)
    for source in (file, content):
        with pytest.raises(RequestError, match=said) as refused:
            read_picture(source)
        assert len(str(refused.value).splitlines()) == 1
        assert " at 0x" not in str(refused.value)


@pytest.mark.parametrize("name", ["cut PNG", "cut JPEG"])
def test_what_pillow_has_opened_and_cannot_decode_is_refused(name: str):
    """It opens a file lazily: what is broken in it shows when its pixels are wanted."""
    with pytest.raises(RequestError, match="cannot be read as a picture"):
        read_picture(Image.open(BytesIO(BROKEN[name][0])))


def test_what_was_closed_is_refused(tmp_path: Path):
    file = tmp_path / "a.png"
    picture(1).save(file)
    with Image.open(file) as closed:
        pass
    with pytest.raises(RequestError, match="a picture of 32x32 cannot be read"):
        read_picture(closed)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of broken TIFF files
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_whatever_is_broken_is_refused_or_read(form: str):
    """Decoders raise errors of all kinds."""
    content = bytes_of(picture(1), form)
    generator = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(content[: generator.integers(1, len(content) + 1)])
        for place in generator.integers(0, len(broken), 4):
            broken[place] = generator.integers(0, 256)
        try:
            assert read_picture(bytes(broken)).mode == "RGB"
        except RequestError as error:
            assert len(str(error).splitlines()) == 1 and " at 0x" not in str(error)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read(form: str):
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    stream = BytesIO()
    more = {"lossless": True} if form == "WEBP" else {}
    first.save(stream, form, save_all=True, append_images=[second, second], **more)
    read = read_picture(stream.getvalue())
    assert (read.size, read.getpixel((3, 3))) == ((8, 6), (255, 0, 0))


def test_of_what_pillow_has_wound_forward_the_present_frame_is_read():
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    stream = BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    opened = Image.open(stream)
    opened.seek(1)
    assert read_picture(opened).getpixel((3, 3)) == (0, 0, 255)


@pytest.mark.parametrize("side", [1, 2])
def test_the_smallest_pictures_are_read(side: int):
    read = read_picture(bytes_of(Image.new("RGB", (side, side), (1, 2, 3)), "PNG"))
    assert (read.size, read.getpixel((0, 0))) == ((side, side), (1, 2, 3))


def test_print_colours_become_rgb():
    grey = Image.new("CMYK", (4, 4), (0, 0, 0, 128))
    for source in (grey, bytes_of(grey, "JPEG"), bytes_of(grey, "TIFF")):
        pixel = np.array(read_picture(source).getpixel((1, 1)), int)
        assert np.abs(pixel - 127).max() <= 3


def test_a_picture_is_the_same_in_every_form(tmp_path: Path):
    source = picture(1)
    source.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    forms = [source, tmp_path / "a.png", str(tmp_path / "a.png"), content]
    forms += [Image.open(BytesIO(content)), bytes_of(source, "TIFF"), bytes_of(source, "BMP")]
    forms.append(source.convert("RGBA"))
    assert len({read_picture(form).tobytes() for form in forms}) == 1


def test_what_is_no_file_is_refused(tmp_path: Path):
    with pytest.raises(RequestError, match="there is no picture at"):
        read_picture(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(RequestError, match="is no file of a picture"):
            read_picture(path)


def test_the_cap_holds_for_pictures_in_memory_too():
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(RequestError, match="pixels"):
        read_picture(Image.new("1", (side, side)))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF"])
@pytest.mark.parametrize("opened", [False, True])
def test_nothing_above_the_cap_is_decoded(monkeypatch, form: str, opened: bool):
    content = bytes_of(Image.new("1", (9000, 9000)), form)
    decoded: list[Any] = []
    load = ImageFile.ImageFile.load

    def watch(image: Any) -> Any:
        decoded.append(image)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watch)
    with pytest.raises(RequestError, match="9000x9000"):
        read_picture(Image.open(BytesIO(content)) if opened else content)
    assert decoded == []
    read_picture(bytes_of(picture(1), "PNG"))
    assert decoded  # what is small enough is


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
