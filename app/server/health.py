"""/health: whether the server takes requests; /metrics: its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from .metrics import Metrics
from .served import Served

router = APIRouter(tags=["service"])


@router.get("/health", responses={503: {"description": "it is going down, or broken"}})
async def health(service: Served) -> JSONResponse:
    """200 while requests are taken; 503 when the server is going down, or its engine has died."""
    status = "draining" if service.draining else "broken" if service.hub.engine.closed else "ok"
    told: dict[str, Any] = {"status": status}
    return JSONResponse(told, 200 if status == "ok" else 503)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """All figures in Prometheus' text form."""
    own: Metrics = request.app.state.metrics
    return Response(own.text(), media_type=CONTENT_TYPE_LATEST)
