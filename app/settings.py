"""Options that were set outside the command line, and where each was.

The command line wins, then MINDSD_COMMAND_OPTION, then MINDSD_OPTION (options that several commands
have), then the config file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperOption

from .command_tree import Command, commands_of, options_of, said, shared, walk
from .config_file import ConfigFile

PREFIX = "MINDSD"
DEFAULT = "default"
SAID = "command line"
NEVER_SHARED = {"port"}  # Kubernetes sets MINDSD_PORT to an address where a service is named mindsd
# It sets such ones where a service is named mindsd-serve.
KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_[0-9]+_")
HIDDEN = "****"
SECRET = ("key", "password", "secret", "token")  # how the names of options end that hold one


@dataclass
class Settings:
    """What one command line was parsed with; filled in by the parser's first step."""

    root: typer.Context | None = None
    file: ConfigFile = field(default_factory=ConfigFile)

    def behind(self, message: str) -> str:
        """An end of a complaint's sentence: what else sets the options that it names; or ""."""
        name = None if self.root is None else self.root.invoked_subcommand
        if self.root is None or name is None or name not in commands_of(self.root.command):
            return ""
        context = typer.Context(commands_of(self.root.command)[name], self.root, name)
        words = {word.strip("-") for word in re.findall(r"[\w-]+", message.replace("_", "-"))}
        found = [
            f"--{each} is set by {origin(context, option)}"
            for each, option, _ in _consumed(context)
            if each in words and origin(context, option) != DEFAULT
        ]
        return f" (where not said, {', '.join(found)})" if found else ""


@dataclass(frozen=True)
class Setting:
    """An option that nobody said on the command line.

    Attributes:
        option: its name as said, without dashes.
        value: what it is, None where the model or the command chooses; `HIDDEN` for a secret.
        origin: a variable, a file's path or "default".
    """

    option: str
    value: Any
    origin: str


def name_variables(root: Command) -> None:
    """Give every option its environment variables, named after what is said."""
    common = {name for name, count in shared(root).items() if count > 1} - NEVER_SHARED
    for path, command in walk(root):
        for name, option in options_of(command).items():
            own = [option.envvar] if isinstance(option.envvar, str) else [*(option.envvar or ())]
            names = [(PREFIX, *path, name), *([(PREFIX, name)] if name in common else [])]
            option.envvar = [*("_".join(parts).upper().replace("-", "_") for parts in names), *own]
            option.show_envvar = False  # a help page of them would drown the options


def misspelt(root: Command) -> Iterator[str]:
    """A sentence for each variable that is named like a command's option, and is none's."""
    named = {own for _, below in walk(root) for own in _variables(below)}
    starts = {f"{'_'.join((PREFIX, *path)).upper()}_": " ".join(path) for path, _ in walk(root)}
    for name in sorted(os.environ.keys() - named):
        start = max((own for own in starts if name.startswith(own)), key=len, default=None)
        if start is None or KUBERNETES.search(name):
            continue
        options = [own.removeprefix(start) for own in named if own.startswith(start)]
        near = get_close_matches(name.removeprefix(start), options, 1)
        page = f"see mindsd {starts[start]} --help"
        hint = f"did you mean {start}{near[0]}?" if near else page
        yield f"the variable {name} sets nothing; {hint}"


def _variables(command: Command) -> Iterator[str]:
    for option in options_of(command).values():
        yield from [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()


def read_settings(context: typer.Context) -> Iterator[Setting]:
    """The options of a context's command, as they are where the command line says nothing.

    Raises:
        typer.BadParameter: one of them is set to what it cannot be.
    """
    for name, option, value in _consumed(context):
        where = origin(context, option)
        if where != DEFAULT:
            value = option.process_value(context, value)
        yield Setting(name, HIDDEN if value and name.endswith(SECRET) else value, where)


def _consumed(context: typer.Context) -> Iterator[tuple[str, TyperOption, Any]]:
    """Each option with its raw value; the context then knows where that is from."""
    for name, option in options_of(context.command).items():
        value, source = option.consume_value(context, {})
        context.set_parameter_source(option.name, source)
        yield name, option, value


def origin(context: typer.Context, option: TyperOption) -> str:
    """Where an option's value is from: a variable's name, a file's path, `DEFAULT` or `SAID`."""
    source = context.get_parameter_source(option.name)
    if source is None or source.name == "COMMANDLINE":
        return SAID
    if source.name == "ENVIRONMENT":
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
        return next(name for name in names if os.environ.get(name))
    if source.name == "DEFAULT_MAP":
        return str(context.find_root().obj.file.path)
    return DEFAULT


def blame(error: typer.TyperException) -> str:
    """Where the value is from that the parser refused, as an end of its sentence; or ""."""
    if getattr(error, "option_name", None) == "--config":
        return "; it stands before the command: mindsd --config FILE COMMAND"
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or not isinstance(option, TyperOption):
        return ""
    where = origin(context, option)
    return "" if where in (SAID, DEFAULT) else f" (--{said(option)} is set by {where})"
