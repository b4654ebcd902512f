"""The pictures in the output folder, as pages may see them.

A page can fetch what lies in Gradio's own folder and nothing else. So a picture gets a second name
there, by which its file goes out as it is, its metadata included, and a small one for the history.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mindsd.errors import RequestError

from ..output import NUMBERED
from ..picture_record import Record, read_record
from ..picture_texts import FORMATS

MOST = 60  # pictures of the history
SMALL = 256  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class Shown:
    """A picture of the output folder, and what pages fetch."""

    name: str
    file: str
    thumbnail: str


class Exhibit:
    """Reads and writes files: to be used on threads.

    Args:
        folder: that pictures are in.
        cache: of the files that pages may fetch.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder = folder
        self._cache = cache

    def newest(self, most: int = MOST) -> list[Shown]:
        """The newest first; what is no picture is left out."""
        found: list[tuple[int, str]] = []
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if NUMBERED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
        pictures = (self.show(name) for _, name in sorted(found, reverse=True)[:most])
        return [one for one in pictures if one is not None]

    def show(self, name: str) -> Shown | None:
        """The picture of this name; None for none that can be shown."""
        if not NUMBERED.fullmatch(name):
            return None
        source = self._folder / name
        try:
            place = self._cache / "shown" / str(source.stat(follow_symlinks=False).st_mtime_ns)
            place.mkdir(parents=True, exist_ok=True)
            if not (file := place / name).exists():
                _second_name(source, file)
            if not (small := place / f"{source.stem}-small.webp").exists():
                _shrink(source, small)
        except Exception:  # gone, or half a picture: decoders raise what they like
            return None
        return Shown(name, str(file), str(small))

    def record(self, name: str) -> Record | None:
        """How a picture was made; None where nobody knows."""
        if not NUMBERED.fullmatch(name):
            return None
        with suppress(RequestError):
            return read_record(self._folder / name)
        return None


def _second_name(source: Path, file: Path) -> None:
    try:
        os.link(source, file, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, file)


def _shrink(source: Path, small: Path) -> None:
    with Image.open(source, formats=FORMATS) as picture:
        picture.draft("RGB", (SMALL, SMALL))
        picture.thumbnail((SMALL, SMALL))
        picture.convert("RGB").save(small, "WEBP", quality=80)
