"""`mindsd chat`: a conversation with a language model, or one answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mindsd.errors import RequestError

from ..completions import language_models
from ..device_options import Device, Dtype, LanguageLayers
from ..interrupt import EXIT_CODE, Interrupt
from ..libraries import heavy_imports
from ..text_options import SEES, TALKS, ChatOrder

Text = str | None
Whole = int | None
Real = float | None


def chat(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            show_default=False,
            help="Answer this and leave; else stdin, if piped.",
        ),
    ] = None,
    model: Annotated[
        Text,
        typer.Option(
            "-m",
            "--model",
            help="smollm2, tiny-vlm, a transformers folder or a .gguf file. "
            "(default: smollm2; tiny-vlm with --image)",
            autocompletion=language_models,
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            *("-i", "--image"),
            metavar="PATH",
            help="Picture to show with the first message; may be said again.",
        ),
    ] = None,
    system: Annotated[Text, typer.Option(help="What the model is told before all.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Of one answer.")] = 512,
    temperature: Annotated[
        Real,
        typer.Option(
            help="0 takes the likeliest token. (default: the model's; else 0.7, 0 with --image)"
        ),
    ] = None,
    top_p: Annotated[
        Real,
        typer.Option(
            help="Only the likeliest tokens of this share. (default: the model's; else 0.9)"
        ),
    ] = None,
    seed: Annotated[Whole, typer.Option(help="Makes answers repeatable. (default: any)")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: LanguageLayers = "auto",
) -> None:
    """Talk with a language model; with a PROMPT or piped text, print one answer.

    Answers go to stdout, everything else to stderr. /image PATH shows a picture with the next
    message, /new starts over, /quit or Ctrl-D leaves, Ctrl-C stops an answer.
    """
    images = tuple(image or ())
    sampling = {"temperature": temperature, "top_p": top_p}
    order = ChatOrder(
        _one_prompt(prompt),
        model or (SEES if images else TALKS),
        system,
        {"max_tokens": max_tokens, "seed": seed, **sampling},
        device,
        dtype,
        images,
        layers,
    )
    raise typer.Exit(_run(order))


def _one_prompt(words: list[str] | None) -> str | None:
    """What to answer, None for a conversation."""
    if words:
        return " ".join(words)
    if sys.stdin.isatty():
        return None
    try:
        return sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError:
        raise RequestError("what is piped in is not valid UTF-8 text") from None


def _run(order: ChatOrder) -> int:
    """Load and talk; the exit code."""
    console = Console(stderr=True, highlight=False, markup=False)

    def note(text: str) -> None:
        console.print(f"({text})", style="dim", soft_wrap=True)

    with Interrupt() as interrupt:
        try:
            began, name = time.perf_counter(), Path(order.model).resolve().name
            with console.status(f"loading {name}"):
                with heavy_imports():
                    from ..dialogue import converse
                    from ..talking import Talk, load
                text = load(order)
            with text:
                note(f"loaded {text.model.name} in {time.perf_counter() - began:.1f} s")
                interrupt.check()
                own = Talk(text, order, note)
                if order.prompt is None:
                    return converse(own, note)
                own.answer(order.prompt, interrupt)
        except KeyboardInterrupt:  # at the prompt, or while loading
            print(file=sys.stderr)
            return EXIT_CODE
    return EXIT_CODE if interrupt.requested else 0
