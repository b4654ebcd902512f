"""Who may come in: programs by the key in a header, browsers by a cookie that they get for it.

The cookie holds a random word of this process, not the key: it ends with the process, scripts of a
page cannot read it, and no other site's page can have it sent.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response

PATH = "/login"
COOKIE = "mindsd_session"
LONGEST = 4096  # bytes of the form

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mindsd</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem system-ui; max-width: 22rem; margin: 20vh auto; padding: 0 1rem }}
input, button {{ font: inherit; width: 100%; padding: .6rem; margin-top: .6rem }}
input, button {{ box-sizing: border-box }}
</style></head>
<body><main><h1>mindsd</h1><form method="post"><label>{said}
<input type="password" name="key" autocomplete="current-password" required autofocus></label>
<button>Open</button></form></main></body></html>"""


class Login:
    """The way in with one key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._session = secrets.token_urlsafe(32)

    def admits(self, headers: Headers) -> bool:
        """Whether a request's headers hold the key or the cookie."""
        given = headers.getlist("x-api-key")
        for value in headers.getlist("authorization"):
            scheme, _, word = value.partition(" ")
            if scheme.lower() == "bearer":
                given.append(word.strip())
        if any([_same(word, self._key) for word in given]):
            return True
        cookies = cookie_parser("; ".join(headers.getlist("cookie")))
        return _same(cookies.get(COOKIE, ""), self._session)

    async def answer(self, request: Request) -> Response:
        """The page that asks for the key; the cookie for whoever posts it."""
        if request.method != "POST":
            return HTMLResponse(PAGE.format(said="The server's key"))
        form = parse_qs((await request.body()).decode("latin-1"), max_num_fields=8)
        if not _same(form.get("key", [""])[0], self._key):
            return HTMLResponse(PAGE.format(said="That is not the server's key"), 401)
        answer = RedirectResponse(request.scope.get("root_path", "") + "/", 303)
        answer.set_cookie(
            COOKIE,
            self._session,
            httponly=True,
            samesite="strict",
            secure=request.scope["scheme"] == "https",
        )
        return answer


def _same(given: str, right: str) -> bool:
    """In a time that says nothing of where they differ, nor of their lengths."""
    one, other = (sha256(text.encode("utf-8", "replace")).digest() for text in (given, right))
    return hmac.compare_digest(one, other)
