"""The config file: where it is looked for, and what its tables say to the options.

A table for each command, `[all]` for every command that has the option; names as they are said:

    [all]
    device = "cuda"
    [generate]
    steps = 30
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from typer.core import TyperOption

from mindsd.errors import RequestError

from .command_tree import Command, commands_of, options_of, shared

ALL = "all"
# What a file of a folder that was merely entered may not say: it would open a server to others.
OPENING = ("host", "insecure", "allowed-host", "allow-origin", "allow-image-host")
TRUSTED = (0,)  # users beside oneself whose files are used where they are found: root


@dataclass(frozen=True)
class ConfigFile:
    """A file that was read, or none.

    Attributes:
        path: where it lies.
        tables: what the parser takes for defaults: command -> parameter -> value.
    """

    path: Path | None = None
    tables: dict[str, Any] = field(default_factory=dict)


def places() -> list[Path]:
    """Where a file is looked for that is not named; the first one there is used."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(home if os.path.isabs(home) else os.path.expanduser("~/.config"))
    return [Path("mindsd.toml"), folder / "mindsd" / "config.toml"]


def find_config(named: Path | None) -> Path | None:
    """The named file, else the first that there is."""
    return named or next((place for place in places() if os.path.isfile(place)), None)


def read_config(named: Path | None, root: Command) -> ConfigFile:
    """What the named file says, or the one that is found.

    Raises:
        RequestError: it cannot be read, or says something that no command knows.
    """
    path = find_config(named)
    if path is None:
        return ConfigFile()
    if named is None and is_strangers(path):
        raise RequestError(
            f"{path} belongs to another user and was not used; "
            f"if you trust it, name it: mindsd --config {path}"
        )
    told = _parse(path)
    if named is None and path == places()[0]:
        _check_closed(path, told)
    return ConfigFile(path, _Reading(path).tables(root, told))


def is_strangers(path: Path) -> bool:
    """Whether it is another user's: in a folder that all may write to, it would choose for us."""
    return hasattr(os, "getuid") and path.stat().st_uid not in (os.getuid(), *TRUSTED)


def _check_closed(path: Path, told: dict[str, Any]) -> None:
    """Whoever enters a folder that was downloaded has not chosen what lies in it."""
    server = told.get("serve", {})
    for key in server if isinstance(server, dict) else ():
        if _dashed(key) in OPENING:
            raise RequestError(
                f"{path}: serve.{key} lets others in, so this file counts only where it is named: "
                f"mindsd --config {path} serve"
            )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"the config file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RequestError(f"the config file {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"the config file {path} is not TOML: {error}") from None


@dataclass(frozen=True)
class _Reading:
    """Checks names and shapes, and says in every complaint which file it is about."""

    path: Path

    def tables(self, root: Command, told: dict[str, Any]) -> dict[str, Any]:
        """The file's tables, with what `[all]` says to each command."""
        commons = told.pop(ALL, {})
        if not isinstance(commons, dict):
            raise self._wrong(ALL, "is a table: write [all]")
        for key in commons:
            if _dashed(key) not in shared(root):
                raise self._unknown(f"{ALL}.{key}", list(shared(root)), "no command has it")
        for key, value in told.items():
            if not isinstance(value, dict) and key not in commands_of(root):
                raise self._wrong(key, f"stands in no table; put it below [{ALL}] or a command's")
        return self._table(root, told, commons, "")

    def _table(self, command: Command, told: Any, commons: dict[str, Any], at: str) -> dict:
        """What is said to one command, and to those below it."""
        if not isinstance(told, dict):
            raise self._wrong(at, f"is a command: write [{at}] and its options below")
        options, below = options_of(command) if at else {}, commands_of(command)
        for key in told:
            if _dashed(key) not in options and key not in below:
                known = [*options, *below, *([] if at else [ALL])]
                page = " ".join(f"mindsd {at} --help".replace(".", " ").split())
                raise self._unknown(f"{at}.{key}", known, f"see {page}")
        found = self._values(options, commons, ALL) | self._values(options, told, at)
        for key, each in below.items():
            found[key] = self._table(each, told.get(key, {}), commons, f"{at}.{key}".lstrip("."))
        return found

    def _values(self, options: dict[str, TyperOption], told: dict[str, Any], at: str) -> dict:
        """By the parser's names; what is no option is passed over."""
        named = [(options.get(_dashed(key)), key, value) for key, value in told.items()]
        return {
            option.name: self._value(option, value, f"{at}.{key}")
            for option, key, value in named
            if option is not None
        }

    def _value(self, option: TyperOption, value: Any, name: str) -> Any:
        """As the command line would say it; whether a text is a number is told by the parser."""
        if option.is_flag:
            if not isinstance(value, bool):
                raise self._wrong(name, f"must be true or false, not {_shown(value)}")
            return value
        if not option.multiple:
            return self._word(value, name)
        several = value if isinstance(value, list) else [value]
        return [self._word(each, name) for each in several]

    def _word(self, value: Any, name: str) -> str:
        """A leading ~/ is the home folder, as a shell would have it."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(name, f"must be a text or a number, not {_shown(value)}")
        word = str(value)
        return os.path.expanduser(word) if word.startswith("~/") else word

    def _wrong(self, name: str, what: str) -> RequestError:
        return RequestError(f"{self.path}: {name.lstrip('.')} {what}")

    def _unknown(self, name: str, known: list[str], otherwise: str) -> RequestError:
        near = get_close_matches(_dashed(name.split(".")[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else otherwise
        return self._wrong(name, f"is unknown; {hint}")


def _dashed(key: str) -> str:
    return key.replace("_", "-")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds = {dict: "a table", list: "a list"}
    return kinds.get(type(value), repr(value) if isinstance(value, str) else str(value))
