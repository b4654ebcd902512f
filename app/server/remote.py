"""Pictures from elsewhere, where the operator allows it: named hosts, public addresses.

What is checked is the address that the socket is really connected to, before a byte is sent, so it
does not matter how a host is spelled or what its name stands for a moment later. Every redirect is
a new request. Proxies of the environment are not used, and the content's type is what its bytes
say, not its header.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import SplitResult, urljoin, urlsplit

import structlog

from mindsd.errors import RequestError

from .addresses import Address, address_of, is_public
from .deadline import Deadline
from .refusal import Refusal
from .uploads import MAX_BYTES, NO_DATA_URL, TOO_LONG, read_data_url

log = structlog.get_logger("mindsd.server")

ANY = "*"
LONGEST = 2048  # characters of a URL
CHUNK = 2**16
REDIRECTS = (301, 302, 303, 307, 308)
SCHEME = re.compile(r"https?://", re.IGNORECASE)
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:.]+")
CLEAN = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.IGNORECASE)

NOT_ALLOWED = Refusal(
    400, "image_host_not_allowed", "images are not fetched from there; send a data: URL"
)
NONE_ALLOWED = Refusal(
    400,
    "image_host_not_allowed",
    "the operator of this server has allowed no host to fetch images from; send a data: URL",
)
FAILED = Refusal(400, "image_not_fetched", "the image could not be fetched; send a data: URL")

Resolve = Callable[[str, int], list[str]]


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True)
class Remote:
    """From where pictures may be fetched.

    Attributes:
        hosts: names whose addresses are public; "*" for any; an address in digits is allowed as it
            is, also where it is not public.
        seconds: of one picture, redirects included.
        most_bytes: of one picture.
        redirects: that are followed.
        resolve: the addresses of a host.
    """

    hosts: tuple[str, ...]
    seconds: float = 10.0
    most_bytes: int = MAX_BYTES
    redirects: int = 3
    resolve: Resolve = _resolve

    def __post_init__(self) -> None:
        for host in self.hosts:
            if host != ANY and NAME.fullmatch(host) is None:
                raise RequestError(f"{host!r} is no host; give a name or an address, lower case")

    def fetch(self, url: str) -> bytes:
        """What lies there. Blocks.

        Raises:
            Refusal: it may not be fetched, could not be, or is too large.
        """
        try:
            with Deadline(self.seconds) as deadline:
                for _ in range(self.redirects + 1):
                    target = self._target(url)
                    with closing(self._connection(target, deadline)) as connection:
                        found = _get(connection, target)
                        if found.status not in REDIRECTS:
                            return self._content(found, deadline)
                    url = urljoin(url, found.getheader("Location") or "")
        except (OSError, http.client.HTTPException, ValueError):
            pass
        raise replace(FAILED)

    def _target(self, url: str) -> SplitResult:
        """A URL that has one reading only, of a host that is allowed."""
        if len(url) > LONGEST or CLEAN.fullmatch(url) is None:
            raise replace(NOT_ALLOWED)
        target = urlsplit(url)
        host = target.hostname or ""
        plain = NAME.fullmatch(host) is not None and "@" not in target.netloc
        if not plain or not (host in self.hosts or ANY in self.hosts):
            raise replace(NOT_ALLOWED)
        return target

    def _connection(self, target: SplitResult, deadline: Deadline) -> http.client.HTTPConnection:
        host = target.hostname or ""
        if target.scheme.lower() == "https":
            made = http.client.HTTPSConnection(
                host, target.port, timeout=self.seconds, context=ssl.create_default_context()
            )
        else:
            made = http.client.HTTPConnection(host, target.port, timeout=self.seconds)
        connect = partial(self._connect, deadline)
        made._create_connection = connect  # pyright: ignore[reportAttributeAccessIssue]
        return made

    def _connect(
        self, deadline: Deadline, to: tuple[str, int], timeout: float, source: None
    ) -> socket.socket:
        """A socket to a host's first address that is allowed and answers."""
        host, port = to
        for text in self.resolve(host, port):
            if not self._allows(address_of(text)):
                continue
            if deadline.over:
                break
            try:
                own = socket.create_connection((text, port), timeout)
            except OSError:
                continue
            deadline.watch(own)
            if self._allows(address_of(own.getpeername()[0])):
                return own
            own.close()
        log.warning("image host has no address that is allowed and answers", host=host)
        raise OSError("no address that is allowed and answers")

    def _allows(self, address: Address | None) -> bool:
        return address is not None and (str(address) in self.hosts or is_public(address))

    def _content(self, found: http.client.HTTPResponse, deadline: Deadline) -> bytes:
        if found.status != 200:
            raise replace(FAILED)
        content = bytearray()
        while chunk := found.read1(CHUNK):
            content += chunk
            if len(content) > self.most_bytes:
                raise replace(TOO_LONG)
        if deadline.over or found.length:  # cut off
            raise replace(FAILED)
        return bytes(content)


def is_remote(url: str) -> bool:
    """Whether it says where something lies, and not what it is."""
    return url[:5].lower() != "data:"


def read_image_url(url: str, remote: Remote | None) -> bytes:
    """What an image's URL stands for: a data URL, or one of what `remote` allows. Blocks.

    Raises:
        Refusal: it is none that is read (400), or too long (413).
    """
    if not is_remote(url):
        return read_data_url(url)
    if remote is None:
        raise replace(NONE_ALLOWED if SCHEME.match(url) else NO_DATA_URL)
    return remote.fetch(url)


def _get(connection: http.client.HTTPConnection, at: SplitResult) -> http.client.HTTPResponse:
    path = (at.path or "/") + (f"?{at.query}" if at.query else "")
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "mindsd"}
    connection.request("GET", path, headers=headers)
    return connection.getresponse()
