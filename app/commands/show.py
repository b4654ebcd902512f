"""`mindsd show`: how pictures were made, as their files say it."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mindsd.errors import RequestError

from ..picture_files import find_pictures
from ..picture_record import Record, read_record
from ..printable import printable
from ..record_lines import as_lines

MISSING = "does not say how it was made"


def show(
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE", help="Files, and folders of png, jpg and webp."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per picture and line.")
    ] = False,
) -> None:
    """Print how pictures were made, as their files say it.

    It reads what mindsd writes, and what Automatic1111 and its like do. Exit code 1: a picture does
    not say it; 2: one cannot be read.
    """
    paths = find_pictures(pictures)
    code = 0
    for path in paths:
        try:
            record, error = read_record(path), MISSING
        except RequestError as refusal:
            record, error, code = None, str(refusal), 2
        if record is None:
            code = code or 1
        if as_json:
            told = {"error": error} if record is None else _object(record)
            print(json.dumps({"path": path, **told}), flush=True)
        elif record is None:
            said = f"{path} {error}" if error == MISSING else error
            print(f"mindsd: {printable(said)}", file=sys.stderr, flush=True)
        else:
            _print(path, record, heading=len(paths) > 1)
    raise typer.Exit(code)


def _object(record: Record) -> dict[str, object]:
    return {**record.as_json(), "unknown": dict(record.unknown)}


def _print(path: str, record: Record, heading: bool) -> None:
    """A table on a terminal, else lines of a name and a value."""
    lines, console = as_lines(record), Console()
    if not console.is_terminal:
        named = [("path", path)] if heading else []
        told = [f"{printable(name)}: {printable(value)}" for name, value in [*named, *lines]]
        print("\n".join([*told, ""] if heading else told), flush=True)
        return
    table = Table(show_header=False, title=Text(printable(path)) if heading else None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(Text(printable(name)), Text(printable(value, keep="\n")))
    console.print(table)
