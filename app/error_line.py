"""An error, told to people in one line."""

from __future__ import annotations

from mindsd.errors import MindsdError

LONGEST = 500  # characters; an error may quote what it is about, and that may be a whole picture


def one_line(error: BaseException) -> str:
    """What went wrong; by its kind, too, where it is none of ours."""
    words = " ".join(str(error).split())
    told = words if isinstance(error, MindsdError) else f"{type(error).__name__}: {words}"
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 3]}..."
