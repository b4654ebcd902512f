from __future__ import annotations

import io

from PIL import Image

from mindsd.app.runs.contact_sheet import GAP, LINE, SIDE, contact_sheet, labelled_grid
from mindsd.app.runs.pictures import Shown, thumbnail
from mindsd.app.runs.report import by_cause, report

RED = Image.new("RGB", (64, 32), "red")


def sheet(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def middle(column: int, row: int, left: int = 0, top: int = 0) -> tuple[int, int]:
    across = GAP + left + column * (SIDE + GAP) + SIDE // 2
    return across, GAP + top + row * (SIDE + 2 * LINE + GAP) + SIDE // 2


def test_a_sheet_has_every_picture_at_its_place():
    blue = Image.new("RGB", (400, 400), "blue")
    drawn = sheet(contact_sheet([(RED, "a"), (blue, "b\nc"), (RED, "x" * 1000), (blue, "狐")]))
    assert drawn.size == (GAP + 2 * (SIDE + GAP), GAP + 2 * (SIDE + 2 * LINE + GAP))
    colours = [drawn.getpixel(middle(x, y)) for y in (0, 1) for x in (0, 1)]
    assert colours == [(255, 0, 0), (0, 0, 255)] * 2
    assert sheet(contact_sheet([(RED, "")])).size == (SIDE + 2 * GAP, SIDE + 2 * LINE + 2 * GAP)


def test_a_grid_is_labelled():
    cells = [[(RED, ""), (RED, "missing")], [(RED, ""), (RED, "")]]
    plain = sheet(labelled_grid(cells, "title", ["g 1", "g 2"], ["", ""]))
    named = sheet(labelled_grid(cells, "title", ["g 1", "g 2"], ["steps 4", "steps 8"]))
    assert named.width > plain.width and named.height == plain.height
    assert plain.getpixel(middle(1, 1, top=LINE + GAP)) == (255, 0, 0)


def test_a_broken_picture_is_grey(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no")
    assert thumbnail(tmp_path / "broken.png", 20).size == (20, 20)
    RED.save(tmp_path / "p.png")
    assert thumbnail(tmp_path / "p.png", 20).size == (20, 10)


def test_the_report_escapes_what_it_is_told():
    told = {"prompt": "<img src=x onerror=alert(1)>", "width": 8, "height": 4, "seed": 0}
    one = Shown("a b&'\".png", told, {"line": 3, "seconds": 0.5, "model": "<m>"})
    failures = by_cause([(4, "<bad>"), (9, "<bad>"), (5, "other")])
    page = report("<t>", {"file": "<f>"}, [(one, RED)], failures, ["grid <1>.png"], 12)
    for strange in ("<img src=x", "<t>", "<f>", "<m>", "<bad>", "<1>", "<script"):
        assert strange not in page
    assert 'href="a%20b%26%27%22.png"' in page
    assert "seed 0, size 8x4" in page and "line 3, 0.5 s, &lt;m&gt;" in page
    assert "2 x</td><td>&lt;bad&gt;</td><td>line 4, 9" in page
    assert "12 more pictures" in page
    assert "default-src 'none'; img-src data:" in page
