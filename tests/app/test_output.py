"""Files come whole under numbers that were free, or not at all."""

import errno
import os
import resource
import threading

import pytest

from mindsd.app.output import OutputFolder
from mindsd.errors import OutputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_numbers_go_on_after_the_highest(tmp_path):
    for name in ("0001.png", "0007.png", "0003.jpg", "preview-0009.png", "x12.png"):
        (tmp_path / name).write_bytes(b"old")
    output = OutputFolder(tmp_path)
    assert [output.add(b"new").name for _ in range(2)] == ["0008.png", "0009.png"]
    assert (tmp_path / "0007.png").read_bytes() == b"old"


def test_files_of_all_formats_are_counted_together(tmp_path):
    output = OutputFolder(tmp_path)
    added = [output.add(b"new", ending).name for ending in ("jpg", "webp", "png")]
    assert added == ["0001.jpg", "0002.webp", "0003.png"]
    assert OutputFolder(tmp_path).add(b"new").name == "0004.png"


def test_the_folder_is_made(tmp_path):
    assert OutputFolder(tmp_path / "a" / "b").add(b"x") == tmp_path / "a" / "b" / "0001.png"
    assert names(tmp_path / "a" / "b") == ["0001.png"]


def test_a_name_taken_meanwhile_is_passed_over(tmp_path):
    output = OutputFolder(tmp_path)
    (tmp_path / "0001.png").write_bytes(b"of another process")
    assert output.add(b"ours").name == "0002.png"
    assert (tmp_path / "0001.png").read_bytes() == b"of another process"


@pytest.mark.parametrize("links", [True, False])
def test_many_writers_in_one_folder(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    writers = [
        threading.Thread(target=_write_twenty, args=(OutputFolder(tmp_path), bytes([65 + i])))
        for i in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert names(tmp_path) == [f"{number:04d}.png" for number in range(1, 81)]
    contents = sorted((tmp_path / name).read_bytes() for name in names(tmp_path))
    assert contents == [letter * 1000 for letter in (b"A", b"B", b"C", b"D") for _ in range(20)]


def _write_twenty(output, letter):
    for _ in range(20):
        output.add(letter * 1000)


def _no_links(*paths):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_put_writes_over_the_one_before(tmp_path):
    output = OutputFolder(tmp_path)
    assert output.put("preview.png", b"1") == output.put("preview.png", b"2")
    assert (tmp_path / "preview.png").read_bytes() == b"2" and len(names(tmp_path)) == 1


@pytest.mark.parametrize("place", ["file", "file/below", "n" * 300])
def test_a_folder_that_cannot_be_written_is_refused(place, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written.*choose another with -o"):
        OutputFolder(tmp_path / place)


def test_the_way_out_is_the_callers_option(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="choose another with --pictures"):
        OutputFolder(tmp_path / "file", "--pictures")


@pytest.mark.parametrize("writing", ["add", "put"])
def test_a_write_that_fails_leaves_nothing(writing, tmp_path):
    output = OutputFolder(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as a disk that fills
    try:
        with pytest.raises(OutputError, match="File too large"):
            output.add(b"x" * 2000) if writing == "add" else output.put("a", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []
