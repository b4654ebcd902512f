"""What stands before every route: the Host and Origin of a request, its key, its body, its id.

Decided by `scope["path"]` and the headers alone, never by a URL that the Host header goes into
(CVE-2026-48746).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address

import structlog
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindsd.errors import RequestError

from .body_limit import BodyLimits, limited
from .login import LONGEST, PATH, Login
from .refusal import Refusal

log = structlog.get_logger("mindsd.server")

OPEN = "/health"
LOCAL = ("localhost", "127.0.0.1", "[::1]")
ANYWHERE = ("0.0.0.0", "::", "[::]")
SAFE = ("GET", "HEAD", "OPTIONS")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")
ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]+)")
PORTS = {"http": "80", "https": "443"}

NO_KEY = Refusal(401, "invalid_api_key", "give the server's key: Authorization: Bearer KEY")
OTHER_HOST = Refusal(
    403, "host_not_allowed", "the Host is not this server's; --allowed-host names further ones"
)
OTHER_ORIGIN = Refusal(
    403, "origin_not_allowed", "pages of other origins may not ask; --allow-origin names some"
)


@dataclass(frozen=True)
class GuardOptions:
    """Who may ask.

    Attributes:
        key: what every route but /health asks for; None for nothing.
        hosts: names of this server beside localhost; "0.0.0.0" and "::" stand for any address in
            digits (which no page of another site can have as its name).
        origins: of pages elsewhere that may ask, as "https://example.org".
        body: limits of a request's body.
    """

    key: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body: BodyLimits = field(default_factory=BodyLimits)

    def __post_init__(self) -> None:
        key = self.key
        if key is not None and not (len(key) >= 8 and key.isascii() and key.isprintable()):
            raise RequestError("a key has at least 8 characters, all of them printable ASCII")
        for host in self.hosts:
            if host not in ANYWHERE and HOST.fullmatch(_bracketed(host.lower())) is None:
                raise RequestError(f"{host!r} is no host; give a name or an address without a port")
        for origin in self.origins:
            if ORIGIN.fullmatch(origin) is None:
                raise RequestError(f"{origin!r} is no origin; give one as https://example.org")


def check_bind(host: str, key: str | None, insecure: bool = False) -> None:
    """Whether a server may listen there.

    Raises:
        RequestError: others than this machine could reach it, and there is no key.
    """
    if key is not None or insecure or _is_loopback(host):
        return
    raise RequestError(
        f"on {host or 'all addresses'} everyone who reaches this machine could use the server; "
        "give it a key with --api-key, or listen on 127.0.0.1, or say --insecure"
    )


class Guard:
    """Middleware: lets through what may ask, with a request id that its log lines hold."""

    def __init__(self, app: ASGIApp, options: GuardOptions) -> None:
        self._app = app
        self._options = options
        self._login = None if options.key is None else Login(options.key)
        self._hosts = {*LOCAL, *(_bracketed(host.lower()) for host in options.hosts)}
        self._any_address = any(host in ANYWHERE for host in options.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        id = headers.get("x-request-id", "")
        id = id if REQUEST_ID.fullmatch(id) else uuid.uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=id)  # a request's task has its own
        scope.setdefault("state", {})["request_id"] = id
        await self._decide(scope, headers, receive, partial(_send, send, id))

    async def _decide(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        refusal = self._foreign(scope, headers)
        if refusal is None and self._login is not None and scope["path"] != OPEN:
            if scope["path"] == PATH and scope["type"] == "http":
                limits = replace(self._options.body, bytes=LONGEST)
                await limited(_as_app(self._login), scope, receive, send, limits)
                return
            refusal = None if self._login.admits(headers) else NO_KEY
        if refusal is not None:
            log.info("refused", code=refusal.code, path=scope["path"][:200])
            await _refuse(refusal, scope, headers, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await limited(self._app, scope, receive, send, self._options.body)

    def _foreign(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Why a request is not meant for this server, or comes from somebody else's page."""
        hosts = headers.getlist("host")
        host = HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None or not self._is_ours(host[1]):
            return OTHER_HOST
        if scope["type"] == "http" and scope["method"] in SAFE:
            return None
        for origin in headers.getlist("origin"):
            if origin not in self._options.origins and not _same_place(origin, host):
                return OTHER_ORIGIN
        return None

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or (self._any_address and _address(host) is not None)


def _same_place(origin: str, host: re.Match[str]) -> bool:
    """Whether a page's origin is the very host and port that it asks."""
    found = ORIGIN.fullmatch(origin.lower())
    place = None if found is None else HOST.fullmatch(found[2])
    if found is None or place is None or place[1] != host[1]:
        return False
    usual = PORTS[found[1]]
    return (place[2] or usual) == (host[2] or usual)


def _as_app(login: Login) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await login.answer(Request(scope, receive)))(scope, receive, send)

    return app


async def _send(send: Send, id: str, message: Message) -> None:
    """Every answer says its id, is taken for nothing else than it says, and is framed by nobody."""
    if message["type"] == "http.response.start":
        headers = MutableHeaders(scope=message)
        headers["X-Request-Id"] = id
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Content-Security-Policy", "frame-ancestors 'self'")
    await send(message)


async def _refuse(
    refusal: Refusal, scope: Scope, headers: Headers, receive: Receive, send: Send
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
        return
    answer: Response = JSONResponse(refusal.body, refusal.status)
    if refusal is NO_KEY:
        answer.headers["WWW-Authenticate"] = "Bearer"
        if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", ""):
            answer = RedirectResponse(scope.get("root_path", "") + PATH, 303)
    await answer(scope, receive, send)


def _address(host: str):
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _bracketed(host: str) -> str:
    """An IPv6 address as a Host header has it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
