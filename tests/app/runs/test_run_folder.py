from __future__ import annotations

import json
import os
import stat

import pytest

from mindsd.app.runs.asking import Asked
from mindsd.app.runs.durable import write_durably
from mindsd.app.runs.lock import FolderLock, Shard
from mindsd.app.runs.manifest import Manifest
from mindsd.app.runs.plan import Job
from mindsd.app.runs.run_folder import RunFolder, read_seed, read_story
from mindsd.errors import OutputError, RequestError
from mindsd.pipelines.parameters import ImageParameters

KEY = "0123456789ab"
JOB = Job(1, 1, KEY, Asked("m", ImageParameters("a fox"), {}))


def test_a_picture_counts_with_its_entry_and_its_file(tmp_path):
    with RunFolder(tmp_path / "new" / "out", Shard()) as folder:
        path = folder.add(JOB, b"picture", {"line": 1})
    assert path.name == f"0001-a-fox-{KEY}.png" and path.read_bytes() == b"picture"
    story = read_story(path.parent)
    entry = {"key": KEY, "file": path.name, "bytes": 7, "line": 1}
    assert story.done == {KEY: entry} and story.files == {KEY: path.name}
    path.unlink()
    assert read_story(path.parent).done == {}


def test_a_file_without_its_entry_is_written_anew_under_its_name(tmp_path):
    (tmp_path / f"0009-old-{KEY}.png").write_bytes(b"half told")
    with RunFolder(tmp_path, Shard()) as folder:
        assert folder.story.done == {}
        assert folder.add(JOB, b"new", {}).name == f"0009-old-{KEY}.png"
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_what_began_together_and_did_not_end_is_known(tmp_path):
    with RunFolder(tmp_path, Shard()) as folder:
        folder.begin(["a", "b", "c"], ["a", "b", "c"])
        folder.failed("a", 1, "no")
        assert read_story(tmp_path).interrupted == [["a", "b", "c"]]
        folder.begin(["a", "b", "c"], ["b", "c"])
        folder.failed("b", 1, "no")
        folder.failed("c", 1, "no")
    story = read_story(tmp_path)
    assert story.interrupted == [] and list(story.failed) == ["a", "b", "c"]


def test_a_manifest_cut_anywhere_goes_on(tmp_path):
    file = tmp_path / "manifest.jsonl"
    with Manifest(file) as manifest:
        manifest.add({"begun": [KEY], "missing": [KEY]})
        manifest.add({"key": KEY, "file": "é", "line": 1})
    whole = file.read_bytes()
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        with Manifest(file) as manifest:
            manifest.add({"key": "last", "error": "x"})
        told = [json.loads(line) for line in file.read_bytes().splitlines()]
        assert told[-1] == {"key": "last", "error": "x"}
        assert len(told) - 1 in (whole[:cut].count(b"\n"), whole[:cut].count(b"\n") + 1)


def test_a_manifest_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(OutputError, match="line 1 of .*manifest.jsonl is no answer"):
        RunFolder(tmp_path, Shard())
    with FolderLock(tmp_path, Shard()):
        assert (tmp_path / "manifest.jsonl").read_text() == '{"other": 1}\n'


def test_the_seed_stays(tmp_path):
    with RunFolder(tmp_path, Shard()) as folder:
        assert read_seed(tmp_path) is None
        seed = folder.seed(None)
        assert seed == folder.seed(None) == read_seed(tmp_path) == folder.seed(seed)
        with pytest.raises(RequestError, match=f"begun with --seed {seed}, not {seed + 1}"):
            folder.seed(seed + 1)
    for other in ("", "[]", '{"seed": true}'):
        (tmp_path / "run.json").write_text(other)
        with pytest.raises(OutputError, match="is not of a run"):
            read_seed(tmp_path)


def test_shards_begin_with_one_seed(tmp_path):
    with RunFolder(tmp_path, Shard(1, 2)) as one, RunFolder(tmp_path, Shard(2, 2)) as two:
        assert one.seed(None) == two.seed(None)
        one.add(JOB, b"x", {})
        two.failed("other", 2, "no")
    assert sorted(file.name for file in tmp_path.glob("*.jsonl")) == [
        "manifest-1-of-2.jsonl",
        "manifest-2-of-2.jsonl",
    ]
    story = read_story(tmp_path)
    assert list(story.done) == [KEY] and list(story.failed) == ["other"]


def test_one_process_or_shards_of_one_number(tmp_path):
    with FolderLock(tmp_path, Shard()):
        for shard in (Shard(), Shard(1, 2)):
            with pytest.raises(OutputError, match="another process draws into"):
                FolderLock(tmp_path, shard)
    with FolderLock(tmp_path, Shard(1, 2)), FolderLock(tmp_path, Shard(2, 2)):
        with pytest.raises(OutputError, match="another process draws shard 1/2 in"):
            FolderLock(tmp_path, Shard(1, 2))
        with pytest.raises(OutputError, match="other processes draw 2 shards into .*, not 3"):
            FolderLock(tmp_path, Shard(1, 3))
        with pytest.raises(OutputError, match="another process draws into"):
            FolderLock(tmp_path, Shard())
    with FolderLock(tmp_path, Shard(1, 3)):
        pass


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2000", "-1/2", "²/3"])
def test_a_wrong_shard_is_refused(text):
    with pytest.raises(RequestError, match="is not I/N"):
        Shard.parse(text)


def test_what_a_kill_left_is_cleared_by_its_own_kind(tmp_path):
    left = [
        ".mindsd-batch-whole-1.part",
        ".mindsd-batch-1-of-2-1.part",
        ".mindsd-batch-2-of-2-1.part",
    ]
    for name in [*left, "mine.part"]:
        (tmp_path / name).touch()

    def there() -> set[str]:
        return {name for name in os.listdir(tmp_path) if name.endswith(".part")}

    with RunFolder(tmp_path, Shard(1, 2)):
        assert there() == {left[0], left[2], "mine.part"}
    with RunFolder(tmp_path, Shard()):
        assert there() == {"mine.part"}


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_durably(file, b"old", ".t-")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match="a cannot be written"):
        write_durably(file, b"new", ".t-")
    assert file.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_every_write_is_synced_before_it_counts(tmp_path, monkeypatch):
    steps: list[str] = []
    fsync, replace = os.fsync, type(tmp_path).replace

    def sync(handle: int) -> None:
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        steps.append("folder synced" if folder else "file synced")
        fsync(handle)

    def rename(self, target):
        steps.append("renamed")
        return replace(self, target)

    with RunFolder(tmp_path, Shard()) as folder:
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(type(tmp_path), "replace", rename)
        folder.add(JOB, b"x", {})
    assert steps == ["file synced", "renamed", "folder synced", "file synced"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made .*; choose another with -o"):
        RunFolder(tmp_path / "file", Shard())
    with pytest.raises(OutputError, match="cannot be made"):
        RunFolder(tmp_path / "file" / "below", Shard())
