"""Whether somebody watches."""

from __future__ import annotations

from rich.console import Console


def terminal() -> Console | None:
    """The terminal behind stderr, for what moves on it; None where plain lines are to be told."""
    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None
