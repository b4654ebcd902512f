"""`mindsd generate`: prompts to picture files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..completions import image_models, samplers, speeds
from ..device_options import Device, Dtype
from ..interrupt import EXIT_CODE, Interrupt
from ..json_lines import JsonLines
from ..libraries import heavy_imports
from ..live import Live
from ..options import Order
from ..output import OutputFolder
from ..progress import Lines, Reporter
from ..repetition import repeat
from ..tally import Tally

UNRECORDED = ("images_per_prompt", "format", "quality", "metadata", "preview_every", "loras")

Text = str | None
File = Path | None
Whole = int | None
Real = float | None


def generate(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", show_default=False, help="What to draw."),
    ] = None,
    images_per_prompt: Annotated[
        int, typer.Option("-n", "--images", help="Images of each prompt.")
    ] = 1,
    source: Annotated[
        File,
        typer.Option(
            "--from", metavar="FILE", help="Draw this picture again; what else is said overrides."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "-m", "--model", help="Embedded model or diffusers folder.", autocompletion=image_models
        ),
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
        Text,
        typer.Option(
            help='As in "Euler a", "DPM++ 2M Karras" or DDIMScheduler.', autocompletion=samplers
        ),
    ] = None,
    image: Annotated[File, typer.Option(help="Picture to draw anew.")] = None,
    mask: Annotated[File, typer.Option(help="Draw --image anew only where this is white.")] = None,
    strength: Annotated[
        Real, typer.Option(help="How much of --image is drawn anew, up to 1.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path(
        "out"
    ),
    format: Annotated[str, typer.Option(metavar="png|jpeg|webp", help="Of the files.")] = "png",
    quality: Annotated[
        Whole, typer.Option(help="Of jpeg and webp, 1 to 100. (default: 95)")
    ] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata/--no-metadata", help="Say in the files how they were made.")
    ] = True,
    device: Device = "auto",
    dtype: Dtype = "auto",
    attention: Annotated[
        str, typer.Option(help="auto, or off: diffusers' own, whatever this machine has.")
    ] = "auto",
    speed: Annotated[
        Text,
        typer.Option(
            help="lossless, quality, balanced or fast: how much may be left out.",
            autocompletion=speeds,
        ),
    ] = None,
    profile: Annotated[File, typer.Option(help="What mindsd tune wrote for the model.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Use the --profile, or draw the --from, of another model."),
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
    loras: Annotated[
        File, typer.Option(metavar="FOLDER", help="Of files, for <lora:name:0.8> in prompts.")
    ] = None,
    weighted: Annotated[
        bool | None,
        typer.Option(
            "--weighted/--not-weighted",
            help="Whether (word:1.2) and [word] weigh. (default: where there are some)",
        ),
    ] = None,
    preview_every: Annotated[
        int, typer.Option(metavar="K", help="Save a rough picture every K steps.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, for machines.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the paths only.")] = False,
) -> None:
    """Draw every prompt and write the images as files that say how they were made.

    The paths go to stdout, progress to stderr. Ctrl-C keeps what is finished.
    """
    with choose_reporter(as_json, quiet) as reporter:
        fields: dict[str, Any] = dict(
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
            format=format,
            quality=quality,
            metadata=metadata,
            device=device,
            dtype=dtype,
            attention=attention,
            speed=speed,
            profile=profile,
            force=force,
            step_cache=step_cache,
            token_merge=token_merge,
            guidance_until=guidance_until,
            loras=loras,
            weighted=weighted,
            preview_every=preview_every,
        )
        if source is not None:
            fields = repeat(source, _said(context, fields))
        raise typer.Exit(_run(Order(**fields), OutputFolder(output), reporter))


def _said(context: typer.Context, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What stands on the command line; of a config file's, only what no record says."""
    return {
        name: value
        for name, value in fields.items()
        if name in UNRECORDED or _is_spoken(context, name)
    }


def _is_spoken(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


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
