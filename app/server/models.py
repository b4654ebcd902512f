"""/v1/models: what may be asked for, and what of it is in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from mindsd.pipelines.shelf import Entry

from .refusal import DRAINING
from .served import Served

router = APIRouter(prefix="/v1/models", tags=["models"])
MISSING: dict[int | str, dict[str, Any]] = {
    400: {"description": "it cannot be done"},
    404: {"description": "there is no such model"},
}


@router.get("")
def list_models(service: Served) -> dict[str, Any]:
    """Every model on the shelf, with whether it is loaded."""
    loaded = service.hub.loaded()
    entries = service.hub.shelf.entries().values()
    return {"object": "list", "data": [_told(entry, loaded) for entry in entries]}


@router.get("/{id}", responses=MISSING)
def get_model(id: str, service: Served) -> dict[str, Any]:
    """One of them."""
    return _told(service.hub.shelf.find(id), service.hub.loaded())


@router.post("/{id}/load", responses=MISSING)
async def load_model(id: str, service: Served) -> dict[str, Any]:
    """Bring a model into memory now, so that the first request does not wait for it."""
    if service.draining:
        raise replace(DRAINING)
    resident = await service.enter(id)
    service.hub.leave(resident)
    return _told(resident.entry, service.hub.loaded())


@router.post("/{id}/unload", responses=MISSING)
async def unload_model(id: str, service: Served) -> dict[str, Any]:
    """Take a model out of memory; refused while requests run on it."""
    entry = await asyncio.to_thread(service.hub.shelf.find, id)
    await asyncio.to_thread(service.hub.unload, id)
    return _told(entry, service.hub.loaded())


def _told(entry: Entry, loaded: dict[str, int]) -> dict[str, Any]:
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": "mindsd",
        "kind": entry.kind,
        "loaded": entry.id in loaded,
    }
