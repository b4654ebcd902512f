"""Numbers as they are typed: an empty field leaves the choice to the model.

Gradio's number fields show 0 for nothing, and a browser rounds large seeds.
"""

from __future__ import annotations

import math
import re
from typing import Any

from mindsd.pipelines.parameters import MAX_SEED

from ..server.refusal import Refusal

EMPTY = "leave it empty"
WHOLE = re.compile(r"[0-9]{1,20}")
REAL = re.compile(r"-?[0-9]{0,12}(?:[.,][0-9]{1,12})?")


def whole(label: str, typed: Any, least: int, most: int, empty: str = EMPTY) -> int | None:
    """A whole number of this range; None for an empty field.

    Args:
        empty: how nothing is said.

    Raises:
        Refusal: it is none.
    """
    text = _text(typed)
    if not text:
        return None
    if not WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise _refusal(label, f"write a whole number, {least} to {most}, or {empty}")
    return int(text)


def real(label: str, typed: Any, least: float, most: float) -> float | None:
    """A number of this range; None for an empty field.

    Raises:
        Refusal: it is none.
    """
    text = _text(typed)
    if not text:
        return None
    number = float(text.replace(",", ".")) if REAL.fullmatch(text) and text != "-" else math.nan
    if not least <= number <= most:  # also where it is none
        raise _refusal(label, f"write a number, {least:g} to {most:g}, or {EMPTY}")
    return number


def seed(typed: Any) -> int | None:
    """A seed; None for any, which is also written -1.

    Raises:
        Refusal: it is none.
    """
    if _text(typed) == "-1":
        return None
    return whole("seed", typed, 0, MAX_SEED, "-1 for any")


def shown(number: float | None) -> str:
    """A number as it is typed."""
    return "" if number is None else f"{number:g}" if isinstance(number, float) else str(number)


def _text(typed: Any) -> str:
    return "" if typed is None else str(typed).strip()


def _refusal(label: str, said: str) -> Refusal:
    return Refusal(400, "invalid_request", f"{label}: {said}", label)
