"""The FastAPI application: routes, and what every answer has in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import mindsd
from mindsd.errors import MindsdError

from . import chat_routes, completion_routes, health, image_routes, jobs, models
from .complaint import complaint
from .guard import Guard, GuardOptions
from .logs import AccessLog
from .metrics import Metrics
from .refusal import BROKEN, Refusal, refusal_of, safe_words
from .remote import Remote
from .service import Service

log = structlog.get_logger("mindsd.server")

NOTHING = "there is nothing here; /openapi.json tells what is"
INSTEAD = {  # of OpenAI's routes that clients ask for
    "/v1/responses": "responses are not offered; ask /v1/chat/completions",
    "/v1/embeddings": "embeddings are not offered, nor is a model that makes some",
    "/v1/images/variations": "variations are not offered; /v1/images/edits draws a picture anew",
}
NO_PAGES: Any = {"docs_url": None, "redoc_url": None}  # they run scripts from elsewhere


def create_app(
    service: Service, guard: GuardOptions | None = None, remote: Remote | None = None
) -> FastAPI:
    """The application over a service, which whoever made it closes.

    Args:
        guard: who may ask; by default pages and programs of this machine.
        remote: from where the pictures of chats may be fetched; by default from nowhere.
    """
    guard = guard or GuardOptions()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.drain(0)

    app = FastAPI(title="mindsd", version=mindsd.__version__, lifespan=lifespan, **NO_PAGES)
    app.state.service, app.state.metrics, app.state.remote = service, Metrics(service), remote
    texts = (chat_routes.router, completion_routes.router)
    for router in (health.router, models.router, jobs.router, image_routes.router, *texts):
        app.include_router(router)
    app.add_exception_handler(Refusal, _told)
    app.add_exception_handler(MindsdError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _told)
    app.add_middleware(Guard, options=guard)
    app.add_middleware(AccessLog)
    if guard.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=guard.origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "X-Api-Key", "X-Request-Id"),
            expose_headers=("X-Job-Id", "X-Request-Id"),
        )
    return app


def _answer(refusal: Refusal) -> JSONResponse:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _told(request: Request, error: Exception) -> JSONResponse:
    refusal = refusal_of(error)
    if refusal.status >= 500 and not isinstance(error, Refusal):
        log.error("failed", path=request.scope["path"], exc_info=error)
    answer = _answer(refusal)
    if id := request.scope.get("state", {}).get("request_id"):  # the guard is not round all errors
        answer.headers["X-Request-Id"] = id
    return answer


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    field = getattr(request.scope.get("route"), "body_field", None)
    where, said = complaint(error.errors(), None if field is None else field.field_info.annotation)
    told = safe_words(f"{where or 'the body'}: {said}")
    return _answer(Refusal(400, "invalid_request", told, where or None))


async def _http(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses."""
    assert isinstance(error, HTTPException)
    nothing = INSTEAD.get(request.scope["path"], NOTHING)
    told = {404: ("not_found", nothing), 405: ("method_not_allowed", "not so")}
    code, said = told.get(error.status_code, ("refused", "the request cannot be taken"))
    refusal = BROKEN if error.status_code >= 500 else Refusal(error.status_code, code, said)
    answer = _answer(refusal)
    answer.headers.update(error.headers or {})  # a 405 has to say what is allowed
    return answer
