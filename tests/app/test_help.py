"""`--help` of every command is what tests/app/help/ holds, 100 columns wide.

After a change that is meant: WRITE_HELP=1 pytest tests/app/test_help.py, and read the difference.
"""

import os
import re
from pathlib import Path

import pytest
import typer
import typer.rich_utils

from mindsd.app.cli import app

FOLDER = Path(__file__).with_name("help")


def pages(command, path=()):
    """The path of every command, the root's first."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from pages(below, (*path, name))


def at(path):
    """The command of a path."""
    command = typer.main.get_command(app)
    for name in path:
        command = getattr(command, "commands")[name]  # noqa: B009
    return command


PAGES = list(pages(typer.main.get_command(app)))


def snapshot(path):
    return FOLDER / f"{'-'.join(('mindsd', *path))}.txt"


@pytest.fixture
def plain(monkeypatch):
    """No colour, no terminal's width, and nobody's own config file or variables."""
    for name in [name for name in os.environ if name.startswith("MINDSD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(typer.rich_utils, "FORCE_TERMINAL", False)
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 100)
    monkeypatch.setenv("MINDSD_CONFIG", os.devnull)


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_the_page_is_as_it_was(path, plain, mindsd):
    run = mindsd(*path, "--help")
    assert (run.code, run.err) == (0, "")
    told = "".join(f"{line.rstrip()}\n" for line in run.lines)
    if os.environ.get("WRITE_HELP"):
        FOLDER.mkdir(exist_ok=True)
        snapshot(path).write_text(told, encoding="utf-8")
    assert told == snapshot(path).read_text(encoding="utf-8")


def test_no_page_is_left_of_a_command_that_went():
    assert {snapshot(path) for path in PAGES} == set(FOLDER.iterdir())


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_no_brackets_are_taken_for_markup(path, plain, mindsd):
    command = at(path)
    texts = [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]
    bracketed = [word for text in texts for word in re.findall(r"\[[^\s\[\]]+\]", text or "")]
    shown = mindsd(*path, "--help").out
    assert all(word in shown for word in bracketed), bracketed
    assert path != ("generate",) or "[word]" in bracketed


def test_every_option_says_what_it_is_for():
    for path in PAGES:
        for parameter in at(path).params:
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"
