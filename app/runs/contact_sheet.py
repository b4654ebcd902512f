"""Pictures in rows on one large picture, each with a line or two beneath it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ..picture_texts import SHEET, PictureTexts

SIDE, GAP, LINE = 160, 12, 16  # pixels
LINES = 2  # of text beneath each
INK, PAPER = (40, 40, 40), (255, 255, 255)

Labelled = tuple[Image.Image, str]


def contact_sheet(pictures: Sequence[Labelled]) -> bytes:
    """A PNG file of so many pictures, about as wide as high, which says that it is a sheet."""
    columns = max(1, math.ceil(math.sqrt(len(pictures))))
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    return _png(_table(rows, columns, top="", left=[""] * len(rows)))


def labelled_grid(
    cells: Sequence[Sequence[Labelled]], title: str, columns: Sequence[str], rows: Sequence[str]
) -> bytes:
    """A PNG file of a table of pictures, named above and at the left."""
    named = [
        [(picture, f"{column}\n{text}" if text else column) for (picture, text), column in pairs]
        for pairs in (zip(row, columns, strict=True) for row in cells)
    ]
    return _png(_table(named, len(columns), top=title, left=rows))


def _table(
    rows: Sequence[Sequence[Labelled]], columns: int, top: str, left: Sequence[str]
) -> Image.Image:
    font = ImageFont.load_default(LINE - 3)
    margin = max((int(font.getlength(name)) + GAP for name in left if name), default=0)
    head = LINE + GAP if top else 0
    width = GAP + margin + columns * (SIDE + GAP)
    high = SIDE + LINES * LINE + GAP
    sheet = Image.new("RGB", (width, GAP + head + len(rows) * high), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), _cut(top, font, width - 2 * GAP), INK, font)
    for y, (row, name) in enumerate(zip(rows, left, strict=True)):
        above = GAP + head + y * high
        draw.text((GAP, above + SIDE // 2), name, INK, font)
        for x, (picture, text) in enumerate(row):
            place = GAP + margin + x * (SIDE + GAP)
            small = picture.copy()
            small.thumbnail((SIDE, SIDE))
            inside = ((SIDE - small.width) // 2, (SIDE - small.height) // 2)
            sheet.paste(small, (place + inside[0], above + inside[1]))
            for number, line in enumerate(text.split("\n")[:LINES]):
                under = (place, above + SIDE + 2 + number * LINE)
                draw.text(under, _cut(line, font, SIDE), INK, font)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, ended by dots where it is wider."""
    text = " ".join(text[:400].split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _png(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=PictureTexts(ours=SHEET).as_chunks())
    return buffer.getvalue()
