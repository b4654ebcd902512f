"""Numbers as they are typed: an empty field leaves the choice to the model.

Gradio's number fields show 0 for nothing, and a browser rounds large seeds.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..server.refusal import Refusal

WHOLE = re.compile(r"[0-9]{1,20}")
REAL = re.compile(r"-?[0-9]{0,12}(?:[.,][0-9]{1,12})?")


def whole(label: str, typed: Any) -> int | None:
    """A whole number, at least 0; None for an empty field.

    Raises:
        Refusal: it is none.
    """
    text = _text(typed)
    if not text:
        return None
    if not WHOLE.fullmatch(text):
        raise _refusal(label, "write a whole number, or leave it empty")
    return int(text)


def real(label: str, typed: Any) -> float | None:
    """A number; None for an empty field.

    Raises:
        Refusal: it is none.
    """
    text = _text(typed)
    if not text:
        return None
    number = float(text.replace(",", ".")) if REAL.fullmatch(text) and text != "-" else math.nan
    if not math.isfinite(number):
        raise _refusal(label, "write a number, or leave it empty")
    return number


def seed(typed: Any) -> int | None:
    """A seed; None for any, which is also written -1.

    Raises:
        Refusal: it is none.
    """
    return None if _text(typed) == "-1" else whole("seed", typed)


def shown(number: float | None) -> str:
    """A number as it is typed."""
    return "" if number is None else f"{number:g}" if isinstance(number, float) else str(number)


def _text(typed: Any) -> str:
    return "" if typed is None else str(typed).strip()


def _refusal(label: str, said: str) -> Refusal:
    return Refusal(400, "invalid_request", f"{label}: {said}", label)
