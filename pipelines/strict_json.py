"""JSON files that are taken only when every field is there, known, and of its kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from mindsd.errors import RequestError


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(own) for own in value.values())


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", _is_text),
    int: ("a whole number", _is_whole),
    float: ("a finite number", _is_real),
    dict[str, str]: ("an object of texts", _is_texts),
    str | None: ("a text or null", _or_none(_is_text)),
    float | None: ("a finite number or null", _or_none(_is_real)),
}
OBJECT = ("an object", lambda value: isinstance(value, dict))  # of a dataclass that reads its own


def load_json(path: Path) -> dict[str, Any]:
    """The object in a file; NaN and Infinity, which are no JSON, are not taken.

    Raises:
        RequestError: it cannot be read, or holds something else.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON ({error})") from None
    if not isinstance(told, dict):
        raise RequestError(f"{path} holds no JSON object, but {type(told).__name__}")
    return told


def check_fields(kind: type, told: Any) -> None:
    """See that an object has exactly a dataclass's fields, each of its kind.

    Raises:
        RequestError: names the first that is missing, unknown or of another kind.
    """
    hints = get_type_hints(kind)
    if not isinstance(told, dict):
        raise RequestError(f"{kind.__name__.lower()} is {told!r} and not an object")
    if missing := sorted(set(hints) - set(told)):
        raise RequestError(f"{missing[0]} is missing")
    if strange := sorted(set(told) - set(hints)):
        raise RequestError(f"{strange[0]} is unknown")
    for name, hint in hints.items():
        said, fits = KINDS.get(hint, OBJECT)
        if not fits(told[name]):
            raise RequestError(f"{name} is {told[name]!r} and not {said}")


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")
