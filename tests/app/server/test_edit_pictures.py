"""Masks as OpenAI has them and as we do."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from mindsd.app.server.edit_pictures import read_mask, read_pictures
from mindsd.app.server.refusal import Refusal

RED = Image.new("RGB", (4, 2), "red")


def file(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format, **options)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def left(mask: Image.Image) -> list[int]:
    """The first row."""
    return [mask.convert("L").getpixel((x, 0)) for x in range(mask.width)]  # pyright: ignore


def half(mode: str, first: object, second: object) -> Image.Image:
    """4 x 2 pixels: two columns of each."""
    made = Image.new(mode, (4, 2), first)  # pyright: ignore[reportArgumentType]
    made.paste(second, (2, 0, 4, 2))  # pyright: ignore[reportArgumentType]
    return made


MARKED = [255, 255, 0, 0]
WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
HOLE = (0, 0, 0, 0)


@pytest.mark.parametrize(
    "picture",
    [
        half("RGBA", HOLE, BLACK),
        half("RGBA", (255, 255, 255, 0), WHITE),  # what is opaque stays, though it be white
        half("RGBA", WHITE, BLACK),  # nothing is transparent: white counts
        half("RGB", (255, 255, 255), (0, 0, 0)),
        half("L", 255, 0),
        half("1", 1, 0),
        half("LA", (0, 0), (0, 255)),
        half("I;16", 65535, 0),
    ],
)
def test_what_is_transparent_is_drawn_else_what_is_white(picture):
    assert left(read_mask(file(picture))) == MARKED


def test_a_palette_may_have_a_transparent_colour():
    palette = half("P", 0, 1)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert left(read_mask(file(palette, transparency=0))) == MARKED


@pytest.mark.parametrize("picture", [RED, Image.new("RGBA", (4, 2), BLACK), Image.new("L", (4, 2))])
def test_a_mask_that_marks_nothing_is_refused(picture):
    with pytest.raises(Refusal, match="nothing of the mask") as caught:
        read_mask(file(picture))
    assert caught.value.param == "mask"


def test_both_pictures():
    mask = file(half("L", 255, 0))
    found = read_pictures({"image": file(RED, "WEBP"), "mask_image": mask})
    assert left(found["mask_image"]) == MARKED and found["image"].size == (4, 2)
    assert read_pictures({}) == {}


def test_which_of_them_is_wrong_is_said():
    good, small = file(RED), file(Image.new("L", (2, 2), 255))
    for files, param in (
        ({"image": b"GIF89a"}, "image"),
        ({"image": good, "mask_image": b""}, "mask"),
        ({"image": good, "mask_image": small}, "mask"),
    ):
        with pytest.raises(Refusal) as caught:
            read_pictures(files)
        assert (caught.value.status, caught.value.param) == (400, param)
    assert "2x2" in str(caught.value) and "4x2" in str(caught.value)
