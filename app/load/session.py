"""One load from its first user to the table; the command imports this file when it runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from rich.console import Console

from ..interrupt import EXIT_CODE
from .drive import client_of, drive
from .plan import LoadPlan, Targets
from .verdict import judge, table
from .visit import Visit

LINE_EVERY = 5.0  # seconds
WIDTH = 120  # columns of a table that does not go to a terminal


def hold(url: str, key: str | None, plan: LoadPlan, targets: Targets, as_json: bool) -> int:
    """Send the users and show how they fared; the exit code.

    Raises:
        RequestError: nobody answers there, or a model is none of the server's.
    """
    visits: list[Visit] = []
    began = last = time.perf_counter()

    def told(own: Visit) -> None:
        nonlocal last
        visits.append(own)
        if time.perf_counter() - last >= LINE_EVERY:
            last = time.perf_counter()
            failed = sum(one.failure is not None for one in visits)
            print(f"{last - began:.0f} s: {len(visits)} over, {failed} failed", file=sys.stderr)

    async def go() -> None:
        async with client_of(url, key) as client:
            await drive(client, plan, told)

    stopped = False
    try:
        asyncio.run(go())
    except KeyboardInterrupt:  # what is known so far is shown
        stopped = True
    _show(visits, targets, as_json)
    return EXIT_CODE if stopped else int(any(own.failure for own in visits))


def _show(visits: list[Visit], targets: Targets, as_json: bool) -> None:
    verdicts = judge(visits, targets)
    if as_json:
        print(json.dumps([own.as_json() for own in verdicts]), flush=True)
        return
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    wide.print(table(verdicts))
