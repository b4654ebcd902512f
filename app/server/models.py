"""/v1/models: what may be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from mindsd.pipelines.shelf import Entry

from .served import Served

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(service: Served) -> dict[str, Any]:
    """Every model on the shelf, with whether it is loaded."""
    loaded = service.hub.loaded()
    entries = service.hub.shelf.entries().values()
    return {"object": "list", "data": [_told(entry, loaded) for entry in entries]}


@router.get("/{id}")
def get_model(id: str, service: Served) -> dict[str, Any]:
    """One of them."""
    return _told(service.hub.shelf.find(id), service.hub.loaded())


def _told(entry: Entry, loaded: dict[str, int]) -> dict[str, Any]:
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": "mindsd",
        "kind": entry.kind,
        "loaded": entry.id in loaded,
    }
