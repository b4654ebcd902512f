"""Which pictures are looked at, and when again."""

import pytest
from PIL import Image

from mindsd.app.picture_files import CAPTIONS, content_hash, find_pictures, without_caption
from mindsd.app.runs.contact_sheet import contact_sheet, labelled_grid
from mindsd.errors import RequestError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("b.png", "a.PNG", "d.webp", "c.jpeg", "e.jpg", "notes.txt", "b.jsonl"):
        (tmp_path / "out" / name).write_text(name)
    (tmp_path / "out" / "inner.png").mkdir()
    return tmp_path / "out"


def test_a_folder_is_all_its_pictures_by_name(folder):
    names = ["a.PNG", "b.png", "c.jpeg", "d.webp", "e.jpg"]
    assert find_pictures(["out"]) == [f"out/{name}" for name in names]
    assert find_pictures(["out/", "./out/b.png"])[0] == "out/a.PNG"


def test_sheets_of_a_batch_are_none_of_a_folders_pictures(folder):
    one = (Image.new("RGB", (8, 8)), "one")
    (folder / "contact-sheet.png").write_bytes(contact_sheet([one]))
    (folder / "grid-0001.png").write_bytes(labelled_grid([[one]], "a", ["1"], [""]))
    one[0].save(folder / "grid-of-somebody.png")
    assert find_pictures(["out"])[-2:] == ["out/e.jpg", "out/grid-of-somebody.png"]
    assert len(find_pictures(["out"])) == 6
    named = ["out/contact-sheet.png"]
    assert find_pictures(named) == named


def test_files_are_as_given_and_each_once(folder):
    given = ["out/notes.txt", "./out/b.png", "out/b.png", "no.png", "out/b.png"]
    assert find_pictures(given) == ["out/notes.txt", "./out/b.png", "out/b.png", "no.png"]


def test_the_output_is_no_picture(folder):
    assert find_pictures(["./out/b.jsonl", "out/b.png"], folder / "b.jsonl") == ["out/b.png"]


@pytest.mark.parametrize(
    ("given", "words"),
    [([], "there is no picture"), (["empty"], "has no pictures .*.png"), (["a\udc80"], "UTF-8")],
)
def test_what_cannot_be(folder, given, words):
    (folder.parent / "empty").mkdir()
    with pytest.raises(RequestError, match=words):
        find_pictures(given)


def test_a_folder_that_is_closed(folder, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", closed)
    with pytest.raises(RequestError, match="the folder out cannot be read .Permission denied"):
        find_pictures(["out"])


def key(path: str, **asked: str):
    found = CAPTIONS.key({"image": path, "hash": content_hash(path), **asked})
    assert found is not None
    return found


def test_a_picture_that_changed_has_no_caption(folder):
    paths = ["out/a.PNG", "out/b.png", "no.png"]
    known = {key(path) for path in paths[:2]} | {("no.png", "")}
    assert without_caption(paths, known) == ["no.png"]
    another = {"question": "What is it?"}
    assert without_caption(paths, known, another) == paths
    assert without_caption(paths, {key(paths[0], **another)}, another) == paths[1:]
    (folder / "b.png").write_text("another")
    assert without_caption(paths, known) == ["out/b.png", "no.png"]
    assert without_caption(paths, ()) == paths
    with pytest.raises(RequestError, match="no.png cannot be read .No such file"):
        content_hash("no.png")
