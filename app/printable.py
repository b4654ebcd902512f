"""Text of unknown origin, made fit for a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with every sign that is not seen, or that could steer a terminal, as its escape.

    Args:
        keep: signs that stay as they are, e.g. a line break.
    """
    return "".join(
        sign if sign.isprintable() or sign in keep else sign.encode("unicode_escape").decode()
        for sign in text
    )
