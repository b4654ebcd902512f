"""How routes come by the application's service."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from .service import Service


def service_of(request: Request) -> Service:
    """The service that the application was made over."""
    return request.app.state.service


Served = Annotated[Service, Depends(service_of)]
