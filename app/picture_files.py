"""The picture files that `mindsd describe` looks at, and what their captions are known by."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from mindsd.errors import RequestError

from .answer_file import Form, Key
from .picture_texts import is_sheet

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def find_pictures(named: Sequence[str], output: Path | None = None) -> list[str]:
    """The paths of all pictures that are named or lie in named folders, each once, as given.

    Args:
        named: files, which may have any ending, and folders, of which all pictures right in them
            are taken, by name, but no sheets of a batch.
        output: where captions go; it may lie among the pictures, and is left out.

    Raises:
        RequestError: nothing is named, a folder has no picture, or a name is no text.
    """
    if not named:
        raise RequestError("there is no picture; name some: mindsd describe out/*.png")
    paths = dict.fromkeys(path for one in named for path in _pictures(one))
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise RequestError(f"the name {path!r} is not valid UTF-8 text; rename it") from None
    own = None if output is None else os.path.abspath(output)
    return [path for path in paths if os.path.abspath(path) != own]


def content_hash(path: str) -> str:
    """128 bits of a hash of a file's bytes, in hexadecimal.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})") from None


def without_caption(
    paths: Sequence[str], captioned: Collection[Key], asked: Mapping[str, str] | None = None
) -> list[str]:
    """Those that have no caption of what they hold now.

    Args:
        asked: what beside a picture a caption depends on, as lines say it ("question", "model").
    """
    known = {path for path, _ in captioned}
    told = asked or {}
    return [path for path in paths if path not in known or not _is_in(path, captioned, told)]


def _pictures(named: str) -> Iterator[str]:
    if not os.path.isdir(named):
        yield named
        return
    try:
        inside = sorted(os.listdir(named))
    except OSError as error:
        raise RequestError(f"the folder {named} cannot be read ({error.strerror})") from None
    files = [os.path.join(named, name) for name in inside if name.lower().endswith(ENDINGS)]
    found = [file for file in files if not os.path.isdir(file)]
    if not found:
        raise RequestError(f"the folder {named} has no pictures ({', '.join(ENDINGS)})")
    yield from (file for file in found if not is_sheet(file))


def _is_in(path: str, captioned: Collection[Key], asked: Mapping[str, str]) -> bool:
    with suppress(RequestError):
        return (path, _depends(content_hash(path), asked)) in captioned
    return False


def _depends(content: str, asked: Mapping[str, Any]) -> str:
    """All that a caption depends on: another question about a picture is another caption."""
    return "\0".join([content, *(str(asked.get(name, "")) for name in ("question", "model"))])


def _caption_key(told: dict[str, Any]) -> Key | None:
    """A line with an error needs no hash: it is nobody's caption."""
    path, content = told.get("image"), told.get("hash", "" if "error" in told else None)
    if not isinstance(path, str) or not isinstance(content, str):
        return None
    return path, _depends(content, told)


CAPTIONS = Form((b'{"image": ',), _caption_key, retries=True)
