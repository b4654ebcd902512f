"""What a row of a prompt file may say: the options of `mindsd generate`, by name and kind."""

from __future__ import annotations

import json
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters

from ..options import Order

OF_THE_RUN = {  # said once, on the command line, or by another name
    "prompts",
    "images_per_prompt",
    "device",
    "dtype",
    "attention",
    "layers",
    "vae",
    "force",
    "preview_every",
    "format",
    "quality",
    "metadata",
    "repeats",
    "loras",  # here the folder of their files; of a row they are names and weights
    "weighted",
}
YES_OR_NO = {"true": True, "false": False}
ALIASES = {
    "negative": "negative_prompt",
    "sampler": "scheduler",
    "cfg": "guidance",
    "cfg_scale": "guidance",
    "images": "n",
}


@cache
def order_columns() -> dict[str, Any]:
    """The type of each field of an `Order` that a row may set."""
    hints = get_type_hints(Order)
    names = [own.name for own in fields(Order) if own.init and own.name not in OF_THE_RUN]
    return {name: hints[name] for name in names}


@cache
def parameter_columns() -> dict[str, Any]:
    """The type of each field of `ImageParameters` that a row sets beside its order."""
    hints = get_type_hints(ImageParameters)
    taken = {"prompt", "acceleration", *order_columns()}
    return {own.name: hints[own.name] for own in fields(ImageParameters) if own.name not in taken}


@cache
def columns() -> dict[str, Any]:
    """Every column and its type."""
    return {"prompt": str, "n": int, **order_columns(), **parameter_columns()}


def column_named(name: str) -> str:
    """The column that a name means, whatever its case.

    Raises:
        RequestError: there is none; tells the nearest.
    """
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    found = ALIASES.get(plain, plain)
    if found in columns():
        return found
    near = get_close_matches(found, [*columns(), *ALIASES], 1)
    hint = f"did you mean {near[0]}" if near else f"there are {', '.join(columns())}"
    raise RequestError(f"unknown column {name!r}; {hint}")


def read_cell(name: str, text: str) -> Any:
    """The value that a text of a table means in this column; None where it is empty.

    Raises:
        RequestError: it is not of the column's kind.
    """
    kinds = _kinds(name)
    if not text.strip():
        return None
    if kinds & {str, Path}:
        return text if name in ("prompt", "negative_prompt") else text.strip()
    for kind, said in ((int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise RequestError(f"column {name}: {text!r} is not {said}") from None
    if bool in kinds:
        if text.strip().lower() in YES_OR_NO:
            return YES_OR_NO[text.strip().lower()]
        raise RequestError(f"column {name}: {text!r} is not true or false")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(f"column {name}: {text!r} is not JSON") from None


def read_value(name: str, value: Any) -> Any:
    """The value that one of JSON means in this column.

    Raises:
        RequestError: it is not of the column's kind.
    """
    kinds = _kinds(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not kinds & {str, Path} or isinstance(value, str):
        return value
    if number and "prompt" not in name:  # as in "token_merge": 0.5
        return str(value)
    raise RequestError(f"{name} must be a text, got {value!r}")


def _kinds(name: str) -> set[Any]:
    hint = columns()[name]
    return set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
