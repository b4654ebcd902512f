"""`mindsd bench`: plain, every speed, every method alone and fewer steps, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import image_options as say
from ..device_options import Device, Dtype, Layers
from ..interrupt import EXIT_CODE, Interrupt
from ..libraries import heavy_imports
from ..trial import Trial
from ..watch import Watch, choose_watch

Text = str | None
Whole = int | None
Real = float | None


def bench(
    context: typer.Context,
    model: say.Model = "tiny-sd",
    prompts: Annotated[
        Path | None, typer.Option(help="File with a prompt on each line. (default: our own)")
    ] = None,
    steps: say.Steps = None,
    guidance: say.Guidance = None,
    scheduler: say.Scheduler = None,
    size: say.Size = None,
    images: Annotated[int, typer.Option(help="That quality is judged on.")] = 16,
    batch: Annotated[int, typer.Option(help="Images drawn at once.")] = 4,
    rounds: Annotated[int, typer.Option(help="How often the time of each way is taken.")] = 3,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers = "auto",
    attention: say.Attention = "auto",
    as_json: say.Json = False,
) -> None:
    """Show what each way to draw faster saves, and what it costs in likeness and memory.

    The table goes to stdout, progress to stderr. Ctrl-C prints what is known so far.
    """
    if context.invoked_subcommand is not None:
        return
    with choose_watch(as_json) as watch:
        trial = Trial(
            model=model,
            prompts=prompts,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            size=size,
            images=images,
            batch=batch,
            rounds=rounds,
            device=device,
            dtype=dtype,
            attention=attention,
            layers=layers,
        )
        code = _run(trial, watch)
    raise typer.Exit(code)


def _run(trial: Trial, watch: Watch) -> int:
    """Measure and tell; the exit code."""
    stopped = False
    with Interrupt() as interrupt:
        try:
            with heavy_imports():
                from ..measuring import benched
            benched(trial, watch, interrupt)
        except KeyboardInterrupt:
            stopped = True
    watch.ended("median", cancelled=stopped)
    return EXIT_CODE if stopped else 0
