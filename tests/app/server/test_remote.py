"""Pictures from elsewhere: over real loopback servers, with names that a fake resolver knows."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from PIL import Image

from mindsd.app.server import remote as module
from mindsd.app.server.refusal import INSIDE, Refusal
from mindsd.app.server.remote import FAILED, NOT_ALLOWED, Remote, read_image_url
from mindsd.app.server.uploads import read_upload
from mindsd.errors import RequestError


def _png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (7, 3), (255, 0, 0)).save(file, "PNG")
    return file.getvalue()


PNG = _png()


class Site(BaseHTTPRequestHandler):
    """A site of pictures, of redirects and of what never ends."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/slow":
            self._trickle()
        elif self.path == "/cut":
            self._send(PNG[:20], len(PNG))
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self._send(PNG if self.path == "/a.png" else b"x" * 5000)

    def _send(self, content: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _trickle(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b".")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def names(**known: str) -> Callable[[str, int], list[str]]:
    """A resolver; what it does not know it asks of the real one."""

    def resolve(host: str, port: int) -> list[str]:
        address = known.get(host.replace(".", "_"))
        return [address] if address is not None else module._resolve(host, port)

    return resolve


def refused(remote: Remote | None, url: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_image_url(url, remote)
    assert caught.value.status in (400, 413) and not INSIDE.search(str(caught.value))
    return caught.value


def test_a_picture_is_fetched_from_an_address_that_is_listed(port: int):
    remote = Remote(("127.0.0.1",))
    found = read_image_url(f"http://127.0.0.1:{port}/a.png", remote)
    assert read_upload(found).size == (7, 3), "whatever its content type says"
    assert Site.asked == ["/a.png"]


def test_without_hosts_only_data_urls_are_read(port: int):
    told = refused(None, f"http://127.0.0.1:{port}/a.png")
    assert told.code == "image_host_not_allowed" and "has allowed no host" in told.message
    assert refused(None, "file:///etc/passwd").code == "invalid_image_url"
    assert read_image_url("data:image/png;base64,aGVsZA==", None) == b"held"
    assert read_image_url("DATA:image/png;base64,aGVsZA==", Remote(("*",))) == b"held"
    assert Site.asked == []


LOOPBACK = [  # spellings of this machine
    "localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::]",
    "127.0.0.1.",
    "%6cocalhost",
    "localhost%00.example.org",
    "example.org@127.0.0.1",
    "127.0.0.1\\@example.org",
    "example.org\\@127.0.0.1",
    "127.0.0.1 .example.org",
    "127.0.0.1\t",
    "①②⑦.⓪.⓪.①",
    "ⓛocalhost",
    "rebound.example",
    "isatap.example",
    "mapped.example",
    "metadata.example",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_where_any_host_is_allowed_none_leads_to_this_machine(host: str, port: int):
    """CVE-2025-6242, CVE-2026-24779, CVE-2026-33626 and their kin."""
    known = names(
        rebound_example="127.0.0.1",
        isatap_example="fe80::5efe:7f00:1",
        mapped_example="::ffff:127.0.0.1",
        metadata_example="169.254.169.254",
    )
    told = refused(Remote(("*",), 2.0, resolve=known), f"http://{host}:{port}/a.png")
    assert str(told) in (str(NOT_ALLOWED), str(FAILED)) and Site.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/a.png",
        "http://good.example.evil.example/a.png",
        "http://evilgood.example/a.png",
        "http://good.example@evil.example/a.png",
        "http://good.example:80@evil.example/",
        "http://evil.example#good.example",
        "http://evil.example\\good.example/",
        "//good.example/a.png",
        "ftp://good.example/a.png",
        "file://good.example/etc/passwd",
        "gopher://good.example/",
        "http:good.example",
        "http://",
        "http://good.example:99999/",
        "http://good.example:port/",
        "http://good.example/\r\nX: y",
        "http://[good.example]/",
        "http://good.example/" + "a" * 3000,
    ],
)
def test_only_listed_hosts_are_asked(url: str):
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return []

    refused(Remote(("good.example",), resolve=resolve), url)
    assert asked == []


def test_a_listed_name_with_an_address_that_is_not_public_is_not_asked(port: int):
    remote = Remote(("good.example",), resolve=names(good_example="127.0.0.1"))
    assert refused(remote, f"http://good.example:{port}/a.png").code == FAILED.code
    both = Remote(("good.example", "127.0.0.1"), resolve=names(good_example="127.0.0.1"))
    assert both.fetch(f"http://good.example:{port}/a.png") == PNG
    assert Site.asked == ["/a.png"]


def test_where_the_first_address_does_not_answer_the_next_one_is_asked(port: int):
    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]  # the server listens on the second alone

    remote = Remote(("good.example", "127.0.0.1", "127.0.0.2"), resolve=resolve)
    assert remote.fetch(f"http://good.example:{port}/a.png") == PNG


def test_the_address_is_checked_once_more_where_the_socket_ended_up(port: int, monkeypatch):
    """As if the name had been changed, or the packet sent elsewhere, between check and use."""
    real = socket.create_connection

    def elsewhere(address: tuple[str, int], *rest: object) -> socket.socket:
        return real(("127.0.0.1", port))

    monkeypatch.setattr(module.socket, "create_connection", elsewhere)
    remote = Remote(("good.example",), resolve=names(good_example="93.184.216.34"))
    assert refused(remote, "http://good.example/a.png").code == FAILED.code
    time.sleep(0.05)
    assert Site.asked == []


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:{port}/a.png",
        "http://other.example:{port}/a.png",
        "//localhost:{port}/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,aGVsZA==",
        "http://127.0.0.1\\@other.example/",
        "ftp://127.0.0.1:{port}/a.png",
    ],
)
def test_every_redirect_is_a_new_request(to: str, port: int):
    remote = Remote(("127.0.0.1",), 2.0, resolve=names(other_example="127.0.0.1"))
    told = refused(remote, f"http://127.0.0.1:{port}/to?{to.format(port=port)}")
    assert told.code in (NOT_ALLOWED.code, FAILED.code)
    assert [path for path in Site.asked if not path.startswith("/to?")] == []


def test_redirects_that_are_allowed_are_followed_but_not_for_ever(port: int):
    remote = Remote(("127.0.0.1",))
    assert remote.fetch(f"http://127.0.0.1:{port}/to?/a.png") == PNG
    url = f"http://127.0.0.1:{port}/to?" * 4 + "/a.png"
    assert refused(remote, url).code == FAILED.code
    assert "/a.png" not in Site.asked[2:]


def test_bytes_and_time_are_capped(port: int):
    small = Remote(("127.0.0.1",), most_bytes=1000)
    assert refused(small, f"http://127.0.0.1:{port}/large").status == 413
    began = time.perf_counter()
    short = Remote(("127.0.0.1",), 0.3)
    assert refused(short, f"http://127.0.0.1:{port}/slow").code == FAILED.code
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize("path", ["/cut", "/missing"])
def test_what_is_no_whole_answer_is_none(path: str, port: int):
    assert refused(Remote(("127.0.0.1",)), f"http://127.0.0.1:{port}{path}").code == FAILED.code


def test_a_port_that_nobody_listens_on_and_a_name_that_nobody_knows_are_told_alike(port: int):
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    one = refused(Remote(("127.0.0.1",)), "http://127.0.0.1:1/")
    other = refused(Remote(("*",), resolve=unknown), "http://a.example/")
    third = refused(Remote(("*",)), f"http://127.0.0.1:{port}/")
    assert str(one) == str(other) == str(third)


def test_proxies_of_the_environment_are_not_used(port: int, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Remote(("127.0.0.1",)).fetch(f"http://127.0.0.1:{port}/a.png") == PNG


@pytest.mark.parametrize("host", ["", "http://x", "Upper.example", "a b", "x:80", "*.example"])
def test_hosts_are_checked(host: str):
    with pytest.raises(RequestError, match="is no host"):
        Remote((host,))
