"""The folder of a run: its seed, its pictures by key, its manifest."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mindsd.errors import OutputError, RequestError

from .durable import PART, write_durably
from .lock import FolderLock, Shard
from .manifest import Entry, Manifest, read_entries
from .plan import SEEDS, Job

SETTINGS = "run.json"
PICTURE = re.compile(r"[0-9]{4,}-.*-([0-9a-f]{12})\.png")


@dataclass(frozen=True)
class Story:
    """What was there when it was looked at.

    Attributes:
        done: the last entry of each image whose file is there, by key.
        failed: the last entry of each that has none because it failed.
        interrupted: keys of images that were begun together and did not all end; their company
            decides how they are rounded.
        files: names of the pictures, by key.
    """

    done: dict[str, Entry] = field(default_factory=dict)
    failed: dict[str, Entry] = field(default_factory=dict)
    interrupted: list[list[str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def read_story(folder: Path) -> Story:
    """What a folder tells; nothing where there is none."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    files = {found[1]: name for name in names if (found := PICTURE.fullmatch(name))}
    last: dict[str, Entry] = {}
    begun: dict[int, list[str]] = {}
    open_groups: dict[str, set[int]] = {}  # of each key, those that wait for its end
    for number, entry in enumerate(read_entries(folder)):
        begun[number] = entry.get("begun", [])
        for key in entry.get("missing", begun[number]):
            open_groups.setdefault(key, set()).add(number)
        if "key" in entry:
            last[entry["key"]] = entry
            open_groups.pop(entry["key"], None)
    waiting = sorted({number for numbers in open_groups.values() for number in numbers})
    return Story(
        {key: entry for key, entry in last.items() if key in files and "file" in entry},
        {key: entry for key, entry in last.items() if "error" in entry},
        [begun[number] for number in waiting],
        files,
    )


class RunFolder:
    """A run's folder while this process writes into it.

    Raises:
        OutputError: it cannot be written, or another process writes into it.
    """

    def __init__(self, path: Path, shard: Shard):
        self.path, self.shard = path, shard
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            said = f"output folder {path} cannot be made ({error.strerror})"
            raise OutputError(f"{said}; choose another with -o") from None
        self._lock = FolderLock(path, shard)
        try:
            self._tag = f".mindsd-batch{shard.suffix or '-whole'}-"
            self._clear()
            self.manifest = Manifest(path / f"manifest{shard.suffix}.jsonl")
        except BaseException:
            self._lock.__exit__()
            raise
        self.story = read_story(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.manifest.__exit__()
        self._lock.__exit__()

    def seed(self, asked: int | None, otherwise: int | None = None) -> int:
        """The run's seed: what was said when it was begun, else asked, else `otherwise` or any.

        Raises:
            RequestError: another one is asked.
            OutputError: it cannot be written down.
        """
        found = read_seed(self.path)
        if found is None:
            wished = otherwise if asked is None else asked
            found = self._first(secrets.randbelow(SEEDS) if wished is None else wished)
        check_seed(self.path, found, asked)
        return found

    def put(self, name: str, content: bytes) -> Path:
        """Write a file, whole or not at all.

        Raises:
            OutputError: the disk is full, or the folder went away.
        """
        write_durably(self.path / name, content, self._tag)
        return self.path / name

    def add(self, job: Job, content: bytes, facts: Mapping[str, Any]) -> Path:
        """Keep a picture and its entry.

        Raises:
            OutputError: the disk is full, or the folder went away.
        """
        name = self.story.files.get(job.key, job.name)
        path = self.put(name, content)
        self.manifest.add({"key": job.key, "file": name, "bytes": len(content), **facts})
        return path

    def failed(self, key: str, line: int, reason: str) -> None:
        """Keep why an image is not there."""
        self.manifest.add({"key": key, "line": line, "error": reason})

    def wrong(self, line: int, reason: str) -> None:
        """Keep why a row has no image, once."""
        key = f"line {line}"
        if self.story.failed.get(key, {}).get("error") != reason:
            self.failed(key, line, reason)

    def begin(self, keys: Iterable[str], missing: Iterable[str]) -> None:
        """Say that these are drawn together from now, for the missing among them."""
        self.manifest.add({"begun": list(keys), "missing": list(missing)})

    def _first(self, seed: int) -> int:
        """Write the seed down, unless another shard was faster; what is written then."""
        own = self.path / f"{self._tag}settings{PART}"
        write_durably(own, json.dumps({"seed": seed}).encode(), self._tag)
        try:
            os.link(own, self.path / SETTINGS)
        except FileExistsError:
            pass
        except OSError:  # a disk without links
            write_durably(self.path / SETTINGS, own.read_bytes(), self._tag)
        finally:
            own.unlink(missing_ok=True)
        found = read_seed(self.path)
        assert found is not None
        return found

    def _clear(self) -> None:
        """Remove what a kill of this shard left half written, of all shards where it is alone."""
        start = self._tag if self.shard.count > 1 else ".mindsd-batch-"
        for name in os.listdir(self.path):
            if name.startswith(start) and name.endswith(PART):
                (self.path / name).unlink(missing_ok=True)


def read_seed(folder: Path) -> int | None:
    """The seed that a run was begun with; None where there is none yet.

    Raises:
        OutputError: something else is written there.
    """
    try:
        seed = json.loads((folder / SETTINGS).read_bytes())["seed"]
        if isinstance(seed, int) and not isinstance(seed, bool):
            return seed
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise OutputError(f"{folder / SETTINGS} is not of a run of mindsd batch; choose another folder")


def check_seed(folder: Path, found: int, asked: int | None) -> None:
    """See that a run goes on with the seed that it was begun with."""
    if asked is not None and asked != found:
        said = f"{folder} was begun with --seed {found}, not {asked}"
        raise RequestError(f"{said}; leave it out, or choose another folder with -o")
