"""`mindsd bench serve`: a server under the load of many users."""

from __future__ import annotations

from typing import Annotated

import typer

from ..load.plan import LoadPlan, Targets

Text = str | None
Whole = int | None


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
    targets = Targets(first_token, between_tokens, image)
    from ..load.session import hold  # loads an HTTP client, which the command line answers without

    raise typer.Exit(hold(url, api_key, plan, targets, as_json))
