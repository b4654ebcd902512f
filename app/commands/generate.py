"""`mindsd generate`: prompts to PNG files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..interrupt import EXIT_CODE, Interrupt
from ..json_lines import JsonLines
from ..libraries import heavy_imports
from ..live import Live
from ..options import Order
from ..output import OutputFolder
from ..progress import Lines, Reporter
from ..tally import Tally

Text = str | None
File = Path | None
Whole = int | None
Real = float | None


def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", show_default=False, help="What to draw."),
    ] = None,
    images_per_prompt: Annotated[
        int, typer.Option("-n", "--images", help="Images of each prompt.")
    ] = 1,
    model: Annotated[
        str, typer.Option("-m", "--model", help="Embedded model or diffusers folder.")
    ] = "tiny-sd",
    negative_prompt: Annotated[
        Text, typer.Option("--negative", help="What to stay away from.")
    ] = None,
    steps: Annotated[Whole, typer.Option(help="Denoising steps. (default: the model's)")] = None,
    guidance: Annotated[Real, typer.Option(help="Guidance scale. (default: the model's)")] = None,
    seed: Annotated[
        Whole, typer.Option(help="Of the first image; the others count up. (default: any)")
    ] = None,
    size: Annotated[
        Text, typer.Option(metavar="WxH", help="Pixels. (default: the model's)")
    ] = None,
    scheduler: Annotated[
        Text, typer.Option(help='As in EulerDiscreteScheduler, or "Euler a".')
    ] = None,
    image: Annotated[File, typer.Option(help="Picture to draw anew.")] = None,
    mask: Annotated[File, typer.Option(help="Draw --image anew only where this is white.")] = None,
    strength: Annotated[
        Real, typer.Option(help="How much of --image is drawn anew, up to 1.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path(
        "out"
    ),
    device: Annotated[str, typer.Option(help="auto, npu, cuda or cpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    attention: Annotated[
        str, typer.Option(help="auto, or off: diffusers' own, whatever this machine has.")
    ] = "auto",
    speed: Annotated[
        Text, typer.Option(help="lossless, quality, balanced or fast: how much may be left out.")
    ] = None,
    profile: Annotated[File, typer.Option(help="What mindsd tune wrote for the model.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Use the --profile of another model.")
    ] = False,
    step_cache: Annotated[
        Text,
        typer.Option(
            metavar="PLAN", help="skip:2, tolerance:0.01, interval:2, adaptive:0.1, plan:1-01..."
        ),
    ] = None,
    token_merge: Annotated[
        Text, typer.Option(metavar="SHARE", help="Of the tokens, up to 0.75; or downsample.")
    ] = None,
    guidance_until: Annotated[
        Real, typer.Option(metavar="SHARE", help="Of the steps that guidance lasts.")
    ] = None,
    preview_every: Annotated[
        int, typer.Option(metavar="K", help="Save a rough picture every K steps.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, for machines.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the paths only.")] = False,
) -> None:
    """Draw every prompt and write the images as PNG files that say how they were made.

    The paths go to stdout, progress to stderr. Ctrl-C keeps what is finished.
    """
    with choose_reporter(as_json, quiet) as reporter:
        order = Order(
            prompts=tuple(prompts or ()),
            images_per_prompt=images_per_prompt,
            model=model,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            seed=seed,
            size=size,
            scheduler=scheduler,
            image=image,
            mask=mask,
            strength=strength,
            device=device,
            dtype=dtype,
            attention=attention,
            speed=speed,
            profile=profile,
            force=force,
            step_cache=step_cache,
            token_merge=token_merge,
            guidance_until=guidance_until,
            preview_every=preview_every,
        )
        raise typer.Exit(_run(order, OutputFolder(output), reporter))


def choose_reporter(as_json: bool, quiet: bool) -> Reporter:
    """JSON lines, paths only, a live display on a terminal, or plain lines."""
    if as_json:
        return JsonLines()
    if quiet:
        return Reporter()
    console = Console(stderr=True)
    return Live(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


def _run(order: Order, output: OutputFolder, reporter: Reporter) -> int:
    """Draw and tell how it went; the exit code."""
    began = time.perf_counter()
    with Interrupt() as interrupt:
        try:
            reporter.loading(Path(order.model).resolve().name)
            with heavy_imports():
                from ..drawing import draw
            tally = draw(order, output, reporter, interrupt)
        except KeyboardInterrupt:  # a signal while loading
            tally = Tally([], len(order.asked), stopping=True)
    reporter.ended(tally, time.perf_counter() - began)
    if tally.stopping:
        return EXIT_CODE
    return 1 if tally.failed else 0
