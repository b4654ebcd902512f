"""`mindsd bench serve`: a server under the load of many users."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from ..interrupt import EXIT_CODE
from ..load.drive import client_of, drive
from ..load.plan import LoadPlan, Targets
from ..load.verdict import judge, table
from ..load.visit import Visit

Text = str | None
Whole = int | None
LINE_EVERY = 5.0  # seconds
WIDTH = 120  # columns of a table that does not go to a terminal


def bench_serve(
    url: Annotated[str, typer.Option(help="Of the server.")] = "http://127.0.0.1:7860",
    api_key: Annotated[Text, typer.Option(help="Of the server, if it has one.")] = None,
    seconds: Annotated[float, typer.Option(help="That users come for.")] = 30,
    rate: Annotated[float, typer.Option(help="Users a second, on average.")] = 1,
    images: Annotated[float, typer.Option(help="Share of them that want an image.")] = 0.25,
    chat_model: Annotated[str, typer.Option(help="Its id.")] = "smollm2",
    image_model: Annotated[str, typer.Option(help="Its id.")] = "tiny-sd",
    max_tokens: Annotated[int, typer.Option(help="Of an answer.")] = 64,
    steps: Annotated[Whole, typer.Option(help="Of an image. (default: the model's)")] = None,
    size: Annotated[
        Text, typer.Option(metavar="WxH", help="Of an image. (default: the model's)")
    ] = None,
    first_token: Annotated[float, typer.Option(help="Target: seconds to it.")] = 1.0,
    between_tokens: Annotated[float, typer.Option(help="Target: mean seconds.")] = 0.2,
    image: Annotated[float, typer.Option(help="Target: seconds to an image.")] = 30.0,
    most: Annotated[int, typer.Option(help="Users at a time.")] = 256,
    seed: Annotated[int, typer.Option(help="Of who comes when.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Send users to a running server at random times and tell how long they waited.

    They come as a Poisson process, some for a chat and some for an image, and nobody waits for
    another. The exit code is 1 where somebody got nothing.
    """
    plan = LoadPlan(
        seconds, rate, images, chat_model, image_model, max_tokens, steps, size, seed, most
    )
    targets, visits, began = Targets(first_token, between_tokens, image), [], time.perf_counter()
    last = began

    def told(own: Visit) -> None:
        nonlocal last
        visits.append(own)
        if time.perf_counter() - last >= LINE_EVERY:
            last = time.perf_counter()
            failed = sum(one.failure is not None for one in visits)
            print(f"{last - began:.0f} s: {len(visits)} over, {failed} failed", file=sys.stderr)

    async def go() -> None:
        async with client_of(url, api_key) as client:
            await drive(client, plan, told)

    stopped = False
    try:
        asyncio.run(go())
    except KeyboardInterrupt:  # what is known so far is shown
        stopped = True
    _show(visits, targets, as_json)
    raise typer.Exit(EXIT_CODE if stopped else int(any(own.failure for own in visits)))


def _show(visits: list[Visit], targets: Targets, as_json: bool) -> None:
    verdicts = judge(visits, targets)
    if as_json:
        print(json.dumps([own.as_json() for own in verdicts]), flush=True)
        return
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    wide.print(table(verdicts))
