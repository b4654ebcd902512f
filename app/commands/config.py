"""`mindsd config`: what is set outside the command line, and where."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from mindsd.errors import RequestError

from ..command_tree import walk
from ..config_file import find_config, is_strangers, places, read_config
from ..settings import DEFAULT, HIDDEN, Setting, Settings, read_settings

config = typer.Typer(help="Show what the config file and the environment set.")


@config.command()
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", show_default=False, help="Only this one's options."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, for machines.")
    ] = False,
) -> None:
    """Print every option's value and where it is from, as a config file would say it.

    Options that nobody set stand behind a #. What is said on the command line comes first, then
    MINDSD_GENERATE_STEPS, then MINDSD_STEPS, which all commands with --steps heed, then the
    command's table in the file, then the table named all. Texts of a list are set apart by spaces
    in a variable, paths by colons.
    """
    settings = context.ensure_object(Settings)
    root = settings.root
    assert root is not None
    settings.file = read_config(root.params["config"], root.command)
    root.default_map = settings.file.tables
    for path, found in _chosen(root, tuple(command or ())).items():
        if as_json:
            for each in found:
                print(json.dumps({"command": " ".join(path), **asdict(each)}, default=str))
        else:
            print("\n".join([f"[{'.'.join(path)}]", *_lines(found), ""]))


@config.command()
def path(context: typer.Context) -> None:
    """Print where a config file is looked for, and which one is used."""
    named = context.find_root().params["config"]
    used = find_config(named)
    for place in [named] if named else places():
        print(f"{place}  ({_fate(place, used, named is not None)})")


def _fate(place: Path, used: Path | None, named: bool) -> str:
    """What becomes of the file at a place where one is looked for."""
    if not os.path.exists(place):
        return "not there"
    if place != used:
        return "passed over: the first one counts"
    return "used" if named or not is_strangers(place) else "another user's: refused unless named"


def _chosen(root: typer.Context, wanted: tuple[str, ...]) -> dict[tuple[str, ...], list[Setting]]:
    """The settings of the wanted command, or of all."""
    contexts: dict[tuple[str, ...], typer.Context] = {(): root}
    for path, command in walk(root.command):
        contexts[path] = typer.Context(command, contexts[path[:-1]], path[-1])
    del contexts[()]
    if wanted and wanted not in contexts:
        names = [" ".join(path) for path in contexts]
        near = get_close_matches(" ".join(wanted), names, n=1) or [", ".join(names)]
        raise RequestError(f"no command {' '.join(wanted)!r} has options; there is {near[0]}")
    chosen = {wanted: contexts[wanted]} if wanted else contexts
    return {path: list(read_settings(context)) for path, context in chosen.items()}


def _lines(found: list[Setting]) -> list[str]:
    """As TOML, where it is from in columns behind."""
    lines = [_toml(each) for each in found]
    width = min(max((len(line) for line in lines), default=0), 50)
    return [f"{line:{width}}  # {each.origin}" for line, each in zip(lines, found, strict=True)]


def _toml(each: Setting) -> str:
    """A line of a config file; behind a # where it would say nothing new, or must not say it."""
    if each.value is None or each.value in ((), []):
        return f"# {each.option} ="
    value = json.dumps(each.value, ensure_ascii=False, default=str)
    aside = each.origin == DEFAULT or each.value == HIDDEN
    return f"{'# ' if aside else ''}{each.option} = {value}"
