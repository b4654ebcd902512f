"""The commands and their options, as names that a config file and the environment may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from typer.core import TyperGroup, TyperOption

Command = Any  # typer keeps click's class to itself
CONFIG = "config"  # the command that tells of settings has none


def commands_of(command: Command) -> dict[str, Command]:
    """The commands below this one that can be configured, by name; a group has some."""
    if not isinstance(command, TyperGroup):
        return {}
    return {name: below for name, below in command.commands.items() if name != CONFIG}


def options_of(command: Command) -> dict[str, TyperOption]:
    """Its options by their names as said, without the dashes before; none that only print."""
    options = (each for each in command.params if isinstance(each, TyperOption))
    return {said(option): option for option in options if not option.is_eager}


def said(option: TyperOption) -> str:
    """The option's longest name: `images` for -n and --images, whatever Python calls it."""
    return max(option.opts, key=len).lstrip("-")


def walk(command: Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command below this one with its path, such as ("bench", "serve")."""
    for name, below in commands_of(command).items():
        yield (*path, name), below
        yield from walk(below, (*path, name))


def keep_brackets(command: Command) -> None:
    """Have help shown as it is written: Rich takes [word] for its markup, and drops it."""
    for own in (command, *command.params):
        own.help = own.help and escape(own.help)
    for below in getattr(command, "commands", {}).values():
        keep_brackets(below)


def shared(command: Command) -> Mapping[str, int]:
    """Each option's name, and how many commands have it."""
    counts: dict[str, int] = {}
    for _, below in walk(command):
        for name in options_of(below):
            counts[name] = counts.get(name, 0) + 1
    return counts
