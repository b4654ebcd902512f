"""Every route of an application, with values for the names in its path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.routing import Route


@dataclass(frozen=True)
class Door:
    """One method of one route.

    Attributes:
        method: of HTTP.
        path: as it was registered, with names in braces.
    """

    method: str
    path: str

    def at(self, value: str) -> str:
        """The path with this value in place of every name."""
        parts = ["{" in part for part in self.path.split("/")]
        pairs = zip(parts, self.path.split("/"), strict=True)
        return "/".join(value if named else part for named, part in pairs)

    @property
    def has_id(self) -> bool:
        return "{" in self.path


def doors(app: FastAPI) -> list[Door]:
    """All of the API's, hidden ones as well; what is mounted (the page) has none here."""
    found = list(_of(app.router))
    told = {(way.upper(), path) for path, ways in app.openapi()["paths"].items() for way in ways}
    assert told <= {(door.method, door.path) for door in found}, "a route was not found"
    return found


def _of(router: APIRouter) -> Iterator[Door]:
    for route in router.routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from _of(inner)
        elif isinstance(route, Route):
            yield from (Door(method, route.path) for method in sorted(route.methods or ()))
