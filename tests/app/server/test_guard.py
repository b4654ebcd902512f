"""What stands before every route: Host, Origin, key, body, request id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from mindsd.app.server.body_limit import BodyLimits
from mindsd.app.server.guard import Guard, GuardOptions, check_bind
from mindsd.app.server.login import COOKIE
from mindsd.errors import RequestError

KEY = "correct-horse"
BEARER = {"Authorization": f"Bearer {KEY}"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length; breaks off without an answer when the client goes away."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client is gone")
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def ask(
    method: str = "GET", path: str = "/", host: str = "localhost", **options: Any
) -> httpx.Response:
    """One request to a guarded application. `options` with a name of GuardOptions go to it."""
    guard = {name: options.pop(name) for name in ("key", "hosts", "origins") if name in options}
    body = options.pop("limits", BodyLimits())

    async def inside() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(echo, GuardOptions(body=body, **guard)))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            headers: Any = {"Host": host, **options.pop("headers", {})}
            return await client.request(method, path, headers=headers, **options)

    return asyncio.run(inside())


def code_of(answer: httpx.Response) -> str | None:
    return None if answer.status_code == 200 else answer.json()["error"]["code"]


HOSTS = [
    ("localhost", True),
    ("LOCALHOST:7860", True),
    ("127.0.0.1:7860", True),
    ("[::1]:7860", True),
    ("evil.example", False),
    ("localhost.evil.example", False),
    ("evil.example:localhost", False),
    ("localhost@evil.example", False),
    ("localhost/health?", False),
    ("localhost:7860:1", False),
    ("127.0.0.1.nip.io", False),
    ("192.168.1.5", False),
    ("0.0.0.0", False),
    ("2130706433", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "ours"), HOSTS)
def test_only_its_own_hosts_are_answered(host: str, ours: bool):
    """DNS rebinding: a page of evil.example whose name now means 127.0.0.1."""
    answer = ask(host=host)
    assert code_of(answer) == (None if ours else "host_not_allowed")
    assert ask(path="/health", host=host).status_code == answer.status_code


def test_further_hosts_are_named_and_any_stands_for_addresses_only():
    named = ("gpu.lan", "fd00::7")
    for host in ("GPU.lan:80", "[fd00::7]"):
        assert ask(host=host, hosts=named).status_code == 200
    assert ask(host="192.168.1.5:7860", hosts=("0.0.0.0",)).status_code == 200
    assert code_of(ask(host="evil.example", hosts=("0.0.0.0",))) == "host_not_allowed"


def test_one_host_header_and_no_more():
    async def two() -> list[Message]:
        headers = [(b"host", b"localhost"), (b"host", b"evil.example")]
        return await called(Guard(echo, GuardOptions()), headers)

    assert asyncio.run(two())[0]["status"] == 403


async def called(
    app: Guard,
    headers: list[tuple[bytes, bytes]],
    bodies: Callable[[], Any] | None = None,
    **more: Any,
) -> list[Message]:
    """What an application sends, for a request that `bodies` gives the messages of."""
    sent: list[Message] = []

    async def receive() -> Message:
        if bodies is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return await bodies()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "scheme": "http"}
    await app({**scope, **more}, receive, send)
    return sent


ORIGINS = [
    ("http://localhost:7860", 200),
    ("http://LOCALHOST:7860", 200),
    ("http://localhost", 403),
    ("http://localhost:3000", 403),
    ("http://127.0.0.1:7860", 403),
    ("https://evil.example", 403),
    ("null", 403),
    ("", 403),
    ("http://localhost:7860.evil.example", 403),
    ("http://localhost:7860@evil.example", 403),
    ("chrome-extension://abc", 403),
]


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_pages_of_other_origins_change_nothing(origin: str, status: int, method: str):
    """CVE-2024-28224, CVE-2025-62593: a web page uses what listens on localhost."""
    answer = ask(method, host="localhost:7860", headers={"Origin": origin})
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    assert ask("GET", host="localhost:7860", headers={"Origin": origin}).status_code == 200


def test_origins_that_are_named_may_ask_and_the_usual_port_need_not_be_said():
    named = ("https://app.example",)
    assert ask("POST", headers={"Origin": named[0]}, origins=named).status_code == 200
    assert ask("POST", headers={"Origin": "http://app.example"}, origins=named).status_code == 403
    usual = {"Origin": "http://localhost"}
    assert ask("POST", host="localhost:80", headers=usual).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_websockets_of_other_origins_are_closed_unopened(origin: str):
    headers = [(b"host", b"localhost"), (b"origin", origin.encode())]
    sent = asyncio.run(called(Guard(echo, GuardOptions()), headers, type="websocket"))
    assert [message["type"] for message in sent] == ["websocket.close"]
    own = [(b"host", b"localhost"), (b"origin", b"http://localhost")]
    sent = asyncio.run(called(Guard(echo, GuardOptions()), own, type="websocket"))
    assert [message["type"] for message in sent] == ["websocket.accept"]
    sent = asyncio.run(called(Guard(echo, GuardOptions(key=KEY)), own, type="websocket"))
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"Authorization": f"bearer {KEY}"}, {"X-Api-Key": KEY}],
    ids=["bearer", "lower", "x-api-key"],
)
def test_the_key_opens(headers: dict[str, str]):
    assert ask("POST", "/v1/x", key=KEY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": "Bearer " + KEY.upper()},
        {"X-Api-Key": ""},
        {"Cookie": f"{COOKIE}={KEY}"},
        {"Cookie": f"{COOKIE}="},
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/v1/x", "/metrics", "/healthy", "/health/", "/HEALTH", "//health"]
)
def test_nothing_else_does_and_only_health_is_open(headers: dict[str, str], path: str):
    answer = ask(path=path, key=KEY, headers=headers)
    assert (answer.status_code, code_of(answer)) == (401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert ask(path="/health", key=KEY, headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost/health?", "foo/health?", "localhost#/health"])
def test_the_host_header_opens_nothing(host: str):
    """CVE-2026-48746: the way was read from a URL that begins with the Host header."""
    assert ask(path="/v1/x", key=KEY, host=host).status_code == 403


def test_a_browser_is_asked_for_the_key_and_gets_a_cookie_that_scripts_and_other_sites_cannot_use():
    async def inside() -> None:
        transport = httpx.ASGITransport(Guard(echo, GuardOptions(key=KEY)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            page = await client.get("/ui", headers={"Accept": "text/html,*/*"})
            assert (page.status_code, page.headers["location"]) == (303, "/login")
            form = await client.get("/login")
            assert form.status_code == 200 and 'type="password"' in form.text
            wrong = await client.post("/login", data={"key": "wrong"})
            assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
            foreign = {"Origin": "https://evil.example"}
            assert (
                await client.post("/login", data={"key": KEY}, headers=foreign)
            ).status_code == 403
            right = await client.post("/login", data={"key": KEY})
            assert (right.status_code, right.headers["location"]) == (303, "/")
            cookie = right.headers["set-cookie"]
            assert "HttpOnly" in cookie and "SameSite=strict" in cookie and KEY not in cookie
            assert (await client.get("/ui", headers={"Accept": "text/html"})).status_code == 200
            assert (await client.post("/run")).status_code == 200
            assert (await client.post("/run", headers=foreign)).status_code == 403

    asyncio.run(inside())


def test_the_cookie_is_secure_over_https_and_the_form_is_small():
    right = ask("POST", "https://x/login", key=KEY, data={"key": KEY})
    assert "Secure" in right.headers["set-cookie"]
    assert ask("POST", "/login", key=KEY, data={"key": "x" * 5000}).status_code == 413
    assert ask(path="/login").status_code == 200, "without a key it is no page of the guard's"


def test_a_body_over_its_bytes_is_refused_by_what_it_says_and_by_what_comes():
    limits = BodyLimits(bytes=10)
    assert ask("POST", content=b"0123456789", limits=limits).text == "10"
    assert code_of(ask("POST", content=b"01234567890", limits=limits)) == "body_too_large"
    pieces = iter([b"0123456", b"789012"])

    async def bodies() -> Message:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    guard = Guard(echo, GuardOptions(body=limits))
    sent = asyncio.run(called(guard, [(b"host", b"localhost")], bodies))
    assert sent[0]["status"] == 413 and (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_too_large"


def test_a_body_that_trickles_is_refused_in_time():
    async def bodies() -> Message:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b".", "more_body": True}

    guard = Guard(echo, GuardOptions(body=BodyLimits(seconds=0.1)))
    sent = asyncio.run(called(guard, [(b"host", b"localhost")], bodies))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_timeout"


def test_waiting_for_the_client_after_its_body_has_no_bound():
    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def bodies() -> Message:
        for message in messages:
            return message
        await asyncio.sleep(0.2)
        return {"type": "http.disconnect"}

    guard = Guard(patient, GuardOptions(body=BodyLimits(seconds=0.05)))
    assert asyncio.run(called(guard, [(b"host", b"localhost")], bodies)) == []


@pytest.mark.parametrize("given", ["abc-1.2_3", "x" * 64])
def test_a_request_keeps_its_id(given: str):
    assert ask(headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", "a\tb", '"};{', "ä".encode().decode("latin-1")]
)
def test_another_id_than_a_plain_word_is_replaced(given: str):
    got = ask(headers={"X-Request-Id": given.encode("latin-1")})
    assert len(got.headers["X-Request-Id"]) == 32 and got.headers["X-Request-Id"] != given


def test_its_log_lines_hold_the_id():
    import structlog

    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(structlog.contextvars.get_contextvars()["request_id"])
        await echo(scope, receive, send)

    headers = [(b"host", b"localhost"), (b"x-request-id", b"mine")]
    asyncio.run(called(Guard(app, GuardOptions()), headers))
    assert seen == ["mine"]


def test_no_page_of_others_frames_it_and_no_type_is_guessed():
    for answer in (ask(), ask(host="evil.example")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_alone_needs_no_key(host: str):
    check_bind(host, None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.5", "gpu.lan", "127.1", "fd00::7"]
)
def test_elsewhere_a_key_or_insecure_is_asked_for(host: str):
    with pytest.raises(RequestError, match="--api-key"):
        check_bind(host, None)
    check_bind(host, KEY)
    check_bind(host, None, insecure=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "short"}, "8 characters"),
        ({"key": "schlüssel-lang"}, "ASCII"),
        ({"key": "with\nnew-line"}, "ASCII"),
        ({"hosts": ("http://x",)}, "is no host"),
        ({"hosts": ("*",)}, "is no host"),
        ({"origins": ("*",)}, "is no origin"),
        ({"origins": ("app.example",)}, "is no origin"),
    ],
)
def test_options_are_checked(options: dict[str, Any], said: str):
    with pytest.raises(RequestError, match=said):
        GuardOptions(**options)
