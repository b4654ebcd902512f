"""A conversation at a prompt, line by line: messages, and commands that begin with a slash."""

from __future__ import annotations

import re
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from mindsd.errors import EngineClosed, MindsdError, RequestError
from mindsd.pipelines.picture import read_picture

from .interrupt import EXIT_CODE, Interrupt
from .speech import is_terminal
from .talking import Note, Talk
from .text_options import check_text


def converse(talk: Talk, note: Note) -> int:
    """Converse on a terminal until the user leaves; the exit code."""
    if is_terminal():
        with suppress(ImportError):  # some Pythons have none; with it lines can be edited
            import_module("readline")
    image = "/image PATH shows a picture with the next message, " if talk.sees else ""
    note(f"{image}/new starts over, /quit or Ctrl-D leaves, Ctrl-C stops an answer")
    if talk.waiting:
        note(f"{_pictures(talk)} shown with the first message")
    while (said := _asked()) is not None:
        word = said.strip()
        if word == "/quit":
            return 0
        if not word or _is_command(talk, word, note):
            continue
        if not _answered(talk, said, note):
            return EXIT_CODE
        if talk.waiting:
            note(f"{_pictures(talk)} shown with the next message; /new forgets all")
    return 0


def _is_command(talk: Talk, said: str, note: Note) -> bool:
    """Do what a line commands; whether it is a command."""
    if said == "/new":
        talk.restart()
        note("a new conversation, without pictures" if talk.sees else "a new conversation")
    elif said.split()[0] == "/image":
        _show(talk, said.removeprefix("/image"), note)
    elif re.fullmatch(r"/\w+", said):
        there = "/image PATH, /new and /quit" if talk.sees else "/new and /quit"
        note(f"there is no command {said}; there are {there}")
    else:
        return False
    return True


def _show(talk: Talk, told: str, note: Note) -> None:
    """Show the picture at a path, which terminals may have put in quotes."""
    path = re.sub(r"""^(["'])(.+)\1$""", r"\2", told.strip())
    try:
        check_text("path", path)
        if not path:
            raise RequestError("say which picture: /image PATH")
        picture = read_picture(Path(path).expanduser())
        tokens = talk.show(picture)
    except (MindsdError, RuntimeError) as error:  # of a home that nobody has
        note(" ".join(str(error).split()))
        return
    width, height = picture.size
    note(f"{width}x{height} pixels, {tokens} tokens: shown with the next message")


def _pictures(talk: Talk) -> str:
    return "1 picture is" if len(talk.waiting) == 1 else f"{len(talk.waiting)} pictures are"


def _asked() -> str | None:
    """The next line, None at the end."""
    try:
        if is_terminal():
            return input("> ")
        print("> ", end="", file=sys.stderr, flush=True)
        return input()
    except EOFError:
        print(file=sys.stderr)
        return None
    except UnicodeDecodeError:
        return "\udcff"  # no text: refused where it is asked


def _answered(talk: Talk, said: str, note: Note) -> bool:
    """Answer one line; False where the program is to end. What fails does not end it."""
    with Interrupt() as interrupt:
        try:
            talk.answer(said, interrupt)
        except EngineClosed:
            raise
        except MindsdError as error:
            note(" ".join(str(error).split()))
    return interrupt.signal != signal.SIGTERM
