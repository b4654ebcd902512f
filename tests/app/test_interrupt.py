"""The first signal asks, the second ends."""

import os
import signal
import subprocess
import sys

import pytest

from mindsd.app.interrupt import EXIT_CODE, Interrupt

DEAF = """
import sys, time
from mindsd.app.interrupt import Interrupt
with Interrupt() as interrupt:
    interrupt.on_signal = lambda: print("asked", flush=True)
    print("ready", flush=True)
    while True:
        time.sleep(10)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_until_someone_listens(number):
    with Interrupt() as interrupt, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert interrupt.requested and interrupt.signal == number
    with pytest.raises(KeyboardInterrupt):
        interrupt.check()


def test_a_signal_calls_who_listens():
    heard = []
    with Interrupt() as interrupt:
        interrupt.on_signal = lambda: heard.append(interrupt.requested)
        os.kill(os.getpid(), signal.SIGINT)
    assert heard == [True]


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        interrupt.check()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_second_signal_ends_at_once():
    with subprocess.Popen(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        for said in ("ready", "asked"):
            assert process.stdout.readline().strip() == said
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == EXIT_CODE
        assert process.stderr.read() == ""
