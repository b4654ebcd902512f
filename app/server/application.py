"""The FastAPI application: routes, and what every answer has in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import mindsd
from mindsd.errors import MindsdError

from . import health, jobs, models
from .metrics import Metrics
from .refusal import BROKEN, Refusal, refusal_of
from .service import Service

log = structlog.get_logger("mindsd.server")


def create_app(service: Service) -> FastAPI:
    """The application over a service, which whoever made it closes."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.drain(0)

    app = FastAPI(title="mindsd", version=mindsd.__version__, lifespan=lifespan)
    app.state.service, app.state.metrics = service, Metrics(service)
    for router in (health.router, models.router, jobs.router):
        app.include_router(router)
    app.add_exception_handler(Refusal, _told)
    app.add_exception_handler(MindsdError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _told)
    return app


def _answer(refusal: Refusal) -> JSONResponse:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _told(request: Request, error: Exception) -> JSONResponse:
    refusal = refusal_of(error)
    if refusal.status >= 500 and not isinstance(error, Refusal):
        log.error("failed", path=request.scope["path"], exc_info=error)
    return _answer(refusal)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")[:200]
    said = first["msg"] if first["type"] != "value_error" else str(first["ctx"]["error"])
    return _answer(Refusal(400, "invalid_request", f"{where or 'the body'}: {said}", where or None))


async def _http(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)
    told = {404: ("not_found", "there is nothing here"), 405: ("method_not_allowed", "not so")}
    code, said = told.get(error.status_code, ("refused", "the request cannot be taken"))
    refusal = BROKEN if error.status_code >= 500 else Refusal(error.status_code, code, said)
    return _answer(refusal)
