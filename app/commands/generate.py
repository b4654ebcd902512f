"""`mindsd generate`: prompts to picture files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import image_options as say
from ..device_options import Device, Dtype, Layers
from ..interrupt import EXIT_CODE, Interrupt
from ..json_lines import JsonLines
from ..libraries import heavy_imports
from ..live import Live
from ..options import Order
from ..output import OutputFolder
from ..progress import Lines, Reporter
from ..repetition import repeat
from ..tally import Tally
from ..terminal import terminal

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
    model: say.Model = "tiny-sd",
    negative_prompt: say.Negative = None,
    steps: say.Steps = None,
    guidance: say.Guidance = None,
    seed: Annotated[
        Whole, typer.Option(help="Of the first image; the others count up. (default: any)")
    ] = None,
    size: say.Size = None,
    scheduler: say.Scheduler = None,
    image: say.Image = None,
    mask: say.Mask = None,
    strength: say.Strength = None,
    output: say.Output = Path("out"),
    format: Annotated[str, typer.Option(metavar="png|jpeg|webp", help="Of the files.")] = "png",
    quality: Annotated[
        Whole, typer.Option(help="Of jpeg and webp, 1 to 100. (default: 95)")
    ] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata/--no-metadata", help="Say in the files how they were made.")
    ] = True,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers = "auto",
    attention: say.Attention = "auto",
    vae: say.Vae = None,
    speed: say.Speed = None,
    profile: say.Profile = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Use the --profile, or draw the --from, of another model."),
    ] = False,
    step_cache: say.StepCache = None,
    token_merge: say.TokenMerge = None,
    guidance_until: say.GuidanceUntil = None,
    loras: say.Loras = None,
    weighted: say.Weighted = None,
    preview_every: Annotated[
        int, typer.Option(metavar="K", help="Save a rough picture every K steps.")
    ] = 0,
    as_json: say.Json = False,
    quiet: say.Quiet = False,
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
            layers=layers,
            vae=vae,
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
    console = terminal()
    return Lines() if console is None else Live(console)


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
