"""The rows of a prompt file: a prompt a line, a table, or JSON lines.

What is wrong with a row is its own affair; what is wrong with the file is refused.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mindsd.errors import RequestError

from .columns import column_named, read_cell, read_value

LARGEST = 64 * 2**20  # bytes of a file
NO_UTF_8 = "the row is not valid UTF-8 text; save the file as UTF-8"
SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # that may set cells apart
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        line: where it begins, counted from 1.
        values: what it says, by the names of columns.
        error: why it cannot be drawn; None where it seems well.
    """

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def read_prompt_file(path: Path) -> Iterator[Row]:
    """Its rows; the ending of its name says what it is.

    Raises:
        RequestError: it cannot be read, is no such file, or its columns are wrong.
    """
    reader = _reader(path)
    try:
        if not path.is_file():
            kind = "is not a file" if path.exists() else "does not exist"
            raise RequestError(f"the prompt file {path} {kind}")
        if path.stat().st_size > LARGEST:
            raise RequestError(f"{path} is over {LARGEST >> 20} MiB; split it")
        with open(path, "rb") as raw:
            if raw.read(2) in UTF_16:
                raise RequestError(f"{path} is UTF-16 text; save it as UTF-8")
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = reader(path, file)
            first = next(rows, None)
            if first is None:
                raise RequestError(f"{path} has no prompts")
            yield _sound(first)
            yield from map(_sound, rows)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})") from None


def _reader(path: Path) -> Callable[[Path, TextIO], Iterator[Row]]:
    readers = {".txt": _text, ".csv": _table, ".tsv": _tabs, ".jsonl": _json, ".ndjson": _json}
    found = readers.get(path.suffix.lower())
    if found is None:
        raise RequestError(f"a prompt file ends in {', '.join(readers)}; {path} does not")
    return found


def _text(path: Path, file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield Row(number, {"prompt": line.strip("\r\n")})


def _json(path: Path, file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield Row(number, _object(line))
            except RequestError as error:
                yield Row(number, error=str(error))


def _object(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line, parse_constant=_no_number, object_pairs_hook=_once)
    except RequestError:
        raise
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the line is not JSON ({error})") from None
    if isinstance(told, str):
        return {"prompt": told}
    if not isinstance(told, dict):
        raise RequestError(f"a line is an object or a text, got {type(told).__name__}")
    named = _once([(column_named(name), value) for name, value in told.items()])
    return {name: read_value(name, value) for name, value in named.items() if value is not None}


def _no_number(text: str) -> None:
    raise RequestError(f"{text} is not JSON, and no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"{twice[0]} is said twice")
    return dict(pairs)


def _tabs(path: Path, file: TextIO) -> Iterator[Row]:
    return _table(path, file, "\t")


def _table(path: Path, file: TextIO, delimiter: str = ",") -> Iterator[Row]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            said = _broken(error, line, reader.line_num)
            if names is None:
                raise RequestError(f"{path} line {line}: {said}") from None
            yield Row(line, error=said)
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = _header(path, line, cells, delimiter)
        else:
            yield _cells(line, names, cells)


def _broken(error: csv.Error, first: int, last: int) -> str:
    """Why a row cannot be read; a quote that is not closed takes the lines after it along."""
    if last > first or "end of data" in str(error):
        lines = f"lines {first} to {last} belong" if last > first else "the rest belongs"
        said = f"a quote is opened here and not closed, so {lines} to it ({error})"
        return f'{said}; close it, or write "" for a quote'
    return f"the row is not a table's ({error})"


def _header(path: Path, line: int, cells: list[str], delimiter: str) -> list[str]:
    try:
        if not _is_unicode("".join(cells)):
            raise RequestError(NO_UTF_8)
        other = [sign for sign in SIGNS if sign in cells[0]] if len(cells) == 1 else []
        if other:
            own, used = SIGNS[delimiter], SIGNS[other[0]]
            raise RequestError(f"cells are set apart by {own}; this file uses {used}")
        names = [column_named(cell) for cell in cells]
        _once([(name, None) for name in names])
        if "prompt" not in names:
            raise RequestError("there is no column prompt; the first row names the columns")
    except RequestError as error:
        raise RequestError(f"{path} line {line}: {error}") from None
    return names


def _cells(line: int, names: list[str], cells: list[str]) -> Row:
    if len(cells) > len(names):
        return Row(line, error=f"{len(cells)} cells under {len(names)} columns; quote commas")
    try:
        pairs = zip(names, cells, strict=False)
        values = {name: read_cell(name, cell) for name, cell in pairs}
    except RequestError as error:
        return Row(line, error=str(error))
    return Row(line, {name: value for name, value in values.items() if value is not None})


def _sound(row: Row) -> Row:
    """A row whose texts can be written anywhere, and whose prompt is one."""
    if row.error is not None:
        return Row(row.line, error=row.error.encode(errors="replace").decode())
    written = json.dumps(row.values, ensure_ascii=False)
    if not _is_unicode(written):
        return Row(row.line, error=NO_UTF_8)
    if "\\u0000" in json.dumps(row.values).replace("\\\\", ""):
        return Row(row.line, error="the row has a NUL character")
    if not row.values.get("prompt", "").strip():
        return Row(row.line, error="column prompt is empty; say what to draw")
    return row


def _is_unicode(text: str) -> bool:
    """Whether no byte stands in it that was no UTF-8."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
