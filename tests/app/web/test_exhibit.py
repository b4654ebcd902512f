"""Pictures of the output folder as pages may see them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from mindsd.app.output import OutputFolder
from mindsd.app.picture_encoding import PNG
from mindsd.app.picture_record import Record
from mindsd.app.web.exhibit import SMALL, Exhibit, Shown
from mindsd.pipelines.parameters import ImageParameters


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    return OutputFolder(tmp_path / "out")


def show(exhibit: Exhibit, name: str) -> Shown:
    shown = exhibit.show(name)
    assert shown is not None
    return shown


def add(folder: OutputFolder, time: int) -> Path:
    record = Record(ImageParameters("a fox", seed=time), "draws")
    file = folder.add(PNG.encode(Image.new("RGB", (600, 300), "red"), record))
    os.utime(file, (time, time))
    return file


def test_the_newest_come_first_and_not_too_many(folder, tmp_path):
    for time in (30, 10, 20):
        add(folder, time)
    exhibit = Exhibit(folder.path, tmp_path / "cache")
    assert [own.name for own in exhibit.newest()] == ["0001.png", "0003.png", "0002.png"]
    assert [own.name for own in exhibit.newest(1)] == ["0001.png"]


def test_a_picture_goes_out_as_it_is_and_a_small_one_beside_it(folder, tmp_path):
    file = add(folder, 5)
    exhibit = Exhibit(folder.path, tmp_path / "cache")
    shown = show(exhibit, "0001.png")
    assert Path(shown.file).read_bytes() == file.read_bytes()
    assert Path(shown.file).name == "0001.png" and exhibit.show("0001.png") == shown
    assert all(
        Path(own).is_relative_to(tmp_path / "cache") for own in (shown.file, shown.thumbnail)
    )
    with Image.open(shown.thumbnail) as small:
        assert small.size == (SMALL, SMALL // 2) and not small.getexif()
    record = exhibit.record("0001.png")
    assert record is not None and record.parameters.seed == 5


def test_a_number_that_is_used_again_is_another_picture(folder, tmp_path):
    exhibit, file = Exhibit(folder.path, tmp_path / "cache"), add(folder, 5)
    before = show(exhibit, "0001.png")
    file.write_bytes(PNG.encode(Image.new("RGB", (60, 30), "blue")))
    after = show(exhibit, "0001.png")
    assert after != before and Path(after.file).read_bytes() == file.read_bytes()


def test_nothing_else_is_shown(folder, tmp_path):
    secret = tmp_path / "9999.png"
    Image.new("RGB", (8, 8)).save(secret)
    (folder.path / "0007.png").symlink_to(secret)
    (folder.path / "0008.png").write_bytes(b"half a picture")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "0009.png").mkdir()
    exhibit = Exhibit(folder.path, tmp_path / "cache")
    assert exhibit.newest() == []
    for name in ("../9999.png", "notes.txt", "0008.png", "0009.png", "", "0001.png/../notes.txt"):
        assert exhibit.show(name) is None and exhibit.record(name) is None


def test_without_links_it_is_a_copy(folder, tmp_path, monkeypatch):
    file = add(folder, 5)

    def refuse(*given, **more):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    shown = show(Exhibit(folder.path, tmp_path / "cache"), "0001.png")
    assert Path(shown.file).read_bytes() == file.read_bytes()


def test_a_folder_that_went_away_shows_nothing(tmp_path):
    assert Exhibit(tmp_path / "gone", tmp_path / "cache").newest() == []
