"""Every value of every body has bounds, whatever bodies there are (CVE-2026-34756, -54235, ...)."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mindsd.app import server
from mindsd.app.server.bodies import Body


def _all_bodies() -> list[type[Body]]:
    for found in pkgutil.iter_modules(server.__path__):
        importlib.import_module(f"{server.__name__}.{found.name}")
    found, new = set(), [Body]
    while new:
        new = [one for base in new for one in base.__subclasses__() if one not in found]
        found.update(new)
    return sorted(found, key=lambda one: one.__name__)


BODIES = _all_bodies()
UNBOUNDED = re.compile(r"(?<!\\)[*+]|,\}")  # of a pattern
FREE = {"schema", "parameters"}  # JSON of the client's own, whose size is capped as a text


def parts(schema: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema that describes a value, with where it stands."""
    yield where, schema
    for name, inner in schema.get("$defs", {}).items():
        yield from parts(inner, name)
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, f"{where}.{name}")
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(key, ()):
            yield from parts(inner, where)
    for inner in schema.get("patternProperties", {}).values():
        yield from parts(inner, f"{where}.patternProperties")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key], f"{where}.{key}")
    if "propertyNames" in schema:
        yield f"{where}.propertyNames", {"type": "string", **schema["propertyNames"]}


def fault(schema: dict[str, Any]) -> str | None:
    """What is unbounded about one value."""
    if "enum" in schema or "const" in schema or "$ref" in schema:
        return None
    kind = schema.get("type")
    if kind in ("integer", "number"):
        low = "minimum" in schema or "exclusiveMinimum" in schema
        high = "maximum" in schema or "exclusiveMaximum" in schema
        return None if low and high else "a number without a least or a greatest"
    if kind == "string":
        pattern = schema.get("pattern")
        bounded = pattern is not None and not UNBOUNDED.search(pattern)
        return None if "maxLength" in schema or bounded else "a text of any length"
    if kind == "array":
        return None if "maxItems" in schema else "a list of any length"
    if kind == "object":
        return _fault_of_object(schema)
    known = {"anyOf", "oneOf", "allOf"} & schema.keys() or kind in ("null", "boolean")
    return None if known else "a value of any kind"


def _fault_of_object(schema: dict[str, Any]) -> str | None:
    more = schema.get("additionalProperties", schema.get("patternProperties", True))
    if more is False:
        return None
    if more is True:
        return "an object with unknown fields"
    return None if "maxProperties" in schema else "a table of any length"


def test_there_are_bodies():
    assert "ImageBody" in {body.__name__ for body in BODIES}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_value_of_a_body_has_bounds(body: type[Body]):
    schema = body.model_json_schema()
    found = [
        f"{where}: {said}"
        for where, part in parts(schema, body.__name__)
        if where.rsplit(".", 1)[-1] not in FREE and (said := fault(part)) is not None
    ]
    assert found == []


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_body_is_strict(body: type[Body]):
    kept = body.model_config
    assert kept.get("strict") and kept.get("extra") == "forbid"
    assert kept.get("allow_inf_nan") is False
