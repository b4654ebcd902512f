"""`mindsd serve` as it is started: where it listens, and what it says to strangers.

CVE-2024-50050, CVE-2025-30165, CVE-2025-32444, CVE-2026-3059: sockets that nobody asked for.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

KEY = "correct-horse"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mindsd.app", "serve", "--port", "0"]
    environment = {**os.environ, "MINDSD_SERVE_API_KEY": KEY}
    own = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=tmp_path_factory.mktemp("serve"),
    )
    yield own
    own.send_signal(signal.SIGTERM)
    try:
        own.wait(30)
    finally:
        own.kill()


@pytest.fixture(scope="module")
def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("http://127.0.0.1:"), line
    return line


def test_it_listens_on_the_asked_address_and_nowhere_else(process, address):
    own = psutil.Process(process.pid)
    found = [one for each in (own, *own.children(True)) for one in each.net_connections("all")]
    listening = [one for one in found if one.status == psutil.CONN_LISTEN]
    assert [tuple(one.laddr) for one in listening] == [("127.0.0.1", urlsplit(address).port)]
    unbound = [one for one in found if one.type == socket.SOCK_DGRAM and one.laddr]
    assert unbound == [], "and no datagrams are taken"


def test_a_stranger_sees_nothing_but_health(address):
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    for path in ("/", "/ui/", "/v1/models", "/metrics", "/openapi.json", "/v1/jobs"):
        assert httpx.get(address + path).status_code == 401, path
        evil = httpx.get(address + path, headers={"Host": "evil.example"})
        assert evil.status_code == 403, path
    with_key = {"Authorization": f"Bearer {KEY}"}
    assert httpx.get(f"{address}/v1/models", headers=with_key).status_code == 200


def test_its_answers_do_not_say_what_it_runs_on(address):
    for answer in (httpx.get(f"{address}/health"), httpx.get(f"{address}/v1/none")):
        assert "server" not in answer.headers and "x-powered-by" not in answer.headers


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["header", "path", "hosts", "none", "negative", "lengths", "long", "tls", "http/2"],
)
def test_what_is_no_sound_request_is_refused_and_it_goes_on(address, sent: bytes):
    """CVE-2025-48956: a header of any size."""
    at = urlsplit(address)
    with socket.create_connection((at.hostname, at.port), 10) as own:
        own.sendall(sent)
        answer = own.recv(4096)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert httpx.get(f"{address}/health").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "gpu.lan"])
def test_elsewhere_it_does_not_start_without_a_key(host: str, mindsd, monkeypatch):
    monkeypatch.delenv("MINDSD_SERVE_API_KEY", raising=False)
    done = mindsd("serve", "--port", 0, "--host", host)
    assert done.code == 2 and "--api-key" in done.err and done.out == ""
