"""What is wrong with a body, in words for people: pydantic's speak of types and patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from .bodies import ID
from .image_bodies import MAX_SIDE, SIZE

LONGEST = 200  # characters of a field's name: it may be the client's own
NAME = re.compile(r"[A-Za-z0-9_]+")  # others are a union's parts, as "list[constrained-str]"

OBJECT = "it should be an object"
WORDS = {
    "json_invalid": "it is not JSON",
    "missing": "it is missing",
    "string_type": "it should be a text",
    "int_type": "it should be a whole number",
    "int_parsing": "it should be a whole number",
    "float_type": "it should be a number",
    "float_parsing": "it should be a number",
    "bool_type": "it should be true or false",
    "bool_parsing": "it should be true or false",
    "list_type": "it should be a list",
    "dict_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "literal_error": "it should be {expected}",
    "union_tag_not_found": "{discriminator} is missing",
    "union_tag_invalid": "{discriminator} should be one of {expected_tags}",
    "too_short": "it is empty; it should have at least {min_length}",
    "too_long": "it should have at most {max_length}",
    "string_too_short": "it is empty",
    "string_too_long": "it should have at most {max_length} characters",
    "greater_than_equal": "it should be at least {ge}",
    "greater_than": "it should be over {gt}",
    "less_than_equal": "it should be at most {le}",
    "less_than": "it should be under {lt}",
    "string_pattern_mismatch": "it has signs that it may not have",
}
PATTERNS = {
    SIZE: f"it should be WIDTHxHEIGHT in pixels, as 512x512, sides to {MAX_SIDE}, or auto",
    ID: "it should be an id: letters, digits, dots, _ and -",
}


def complaint(
    errors: Sequence[Mapping[str, Any]], body: type[BaseModel] | None = None
) -> tuple[str, str]:
    """The field that is wrong, "" for the body as a whole, and what is wrong with it.

    What was sent is not repeated.

    Args:
        errors: as pydantic and FastAPI tell them, at least one.
        body: what they are about, where that is known.
    """
    told = min(errors, key=_rank)
    kind, given = told["type"], told.get("ctx", {})
    named = [str(part) for part in told["loc"] if part != "body"]
    where = ".".join(part for part in named if NAME.fullmatch(part))[:LONGEST]
    if kind == "value_error":
        return where, str(given["error"])
    if kind == "extra_forbidden":
        near = get_close_matches(where, () if body is None else body.model_fields, 1)
        return where, f"there is no such field{f'; did you mean {near[0]}?' if near else ''}"
    if kind == "json_invalid":  # where: a place in the text
        return "", WORDS[kind]
    if kind == "model_attributes_type" and not where:
        return where, "it is a JSON object, sent as Content-Type: application/json"
    if given.get("pattern") in PATTERNS:
        return where, PATTERNS[given["pattern"]]
    return where, WORDS[kind].format(**given) if kind in WORDS else str(told["msg"])


def _rank(error: Mapping[str, Any]) -> int:
    """Lower for what says more: a misspelt field is why another one is missing, and of something
    that may be of two kinds what is wrong inside says more than that it is no text."""
    kind = error["type"]
    return 0 if kind == "extra_forbidden" else 2 if kind.endswith("_type") else 1
