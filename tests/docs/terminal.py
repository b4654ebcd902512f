"""Runs the lines that pages show: `mindsd` in this process, a server in a thread, curl as it is."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from glob import glob
from typing import Any

import pytest

from mindsd.app.cli import main
from mindsd.app.server import serving
from mindsd.app.server.run import Server
from mindsd.pipelines.knobs import Knob
from tests.app.server.live_server import eventually

ADDRESS = "http://127.0.0.1:7860"  # as pages say it
PATIENCE = 120.0  # seconds
# What a tuning tries here; all of it would take a minute, and is tried by its own tests.
KNOBS = (Knob("step_cache", ("skip:2", "skip:3")),)


class Terminal:
    """One terminal, in the present folder; `mindsd serve` goes on beside it.

    Attributes:
        out: what the last line printed, on either stream.
        code: its exit code.
        address: of the server that runs; None for none.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self.out, self.code = "", 0
        self.address: str | None = None
        monkeypatch.setattr(serving, "configure_logs", lambda as_json: None)  # the process's own
        make = serving.make_server
        monkeypatch.setattr(serving, "make_server", lambda *a, **k: self._keep(make(*a, **k)))
        monkeypatch.setattr("mindsd.app.measuring.calibrate", lambda *given: {})
        monkeypatch.setattr("mindsd.app.measuring.KNOBS", KNOBS)
        self._serve = serving.serve
        monkeypatch.setattr(serving, "serve", self._start)

    def run(self, line: str) -> str:
        """What a line prints."""
        self._capsys.readouterr()
        words = shlex.split(self.there(line), comments=True)
        with self._monkeypatch.context() as patch:
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("=", 1))
            self.out, self.code = self._run(words, self.there(line))
        return self.out

    def there(self, text: str) -> str:
        """A text with the address of the server that runs."""
        return text if self.address is None else text.replace(ADDRESS, self.address)

    def stop(self) -> None:
        """End the server, if one runs."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server did not stop"
        self._server = self._thread = self.address = None

    def _run(self, words: list[str], line: str) -> tuple[str, int]:
        if words[0] == "export":
            self._monkeypatch.setenv(*words[1].split("=", 1))
            return "", 0
        if words[0] == "curl":
            told = subprocess.run(
                ["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE
            )
            return told.stdout or told.stderr, told.returncode
        assert words[0] == "mindsd", f"{words[0]} is not run here; show it in a console block"
        code = main([own for word in words[1:] for own in _expanded(word)])
        told = self._capsys.readouterr()
        return told.out + told.err, code

    def _start(self, order: serving.ServeOrder) -> None:
        """What `mindsd serve` comes to: the same, on a free port of the loopback address."""
        self.stop()
        hosts = (*order.guard.hosts, order.host)
        order = replace(order, host="127.0.0.1", port=0, guard=replace(order.guard, hosts=hosts))
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                self._serve(order)
            except BaseException as error:
                failures.append(error)

        self._thread = threading.Thread(target=serve, name="mindsd serve")
        self._thread.start()
        eventually(lambda: bool(failures) or self._serves(), PATIENCE)
        if failures:
            self._thread.join()
            raise failures[0]
        assert self._server is not None
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"

    def _serves(self) -> bool:
        return self._server is not None and self._server.started

    def _keep(self, server: Server) -> Server:
        self._server = server
        return server


def python(program: str, names: dict[str, Any]) -> None:
    """Run a block in the names of its page."""
    exec(compile(program, "<page>", "exec"), names)


def _expanded(word: str) -> list[str]:
    """As a shell does: files for a pattern."""
    found = sorted(glob(word)) if "*" in word else []
    return found or [word]


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the page's own, and a home of its own."""
    for name in [name for name in os.environ if name.startswith("MINDSD_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        with suppress(KeyError):
            monkeypatch.setenv(name, os.path.join(os.getcwd(), ".home"))
