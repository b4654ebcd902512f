"""`mindsd tune`: the fastest way to draw within a bound, as a profile for every face."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mindsd.errors import OutputError
from mindsd.pipelines.profile import check_place

from .. import image_options as say
from ..device_options import Device, Dtype, Layers
from ..interrupt import EXIT_CODE, Interrupt
from ..libraries import heavy_imports
from ..trial import Trial
from ..watch import Watch, choose_watch

Text = str | None
Whole = int | None
Real = float | None


def tune(
    model: say.Model = "tiny-sd",
    bound: Annotated[
        str,
        typer.Option(help="What it may cost: ssim>=0.95, psnr>=35, right>=-0.01, with commas."),
    ] = "ssim>=0.95",
    prompts: Annotated[
        Path | None, typer.Option(help="File with a prompt on each line. (default: our own)")
    ] = None,
    steps: say.Steps = None,
    guidance: say.Guidance = None,
    scheduler: say.Scheduler = None,
    size: say.Size = None,
    images: Annotated[
        int, typer.Option(help="To search with; as many others prove what is found.")
    ] = 16,
    batch: Annotated[int, typer.Option(help="Images drawn at once.")] = 4,
    rounds: Annotated[int, typer.Option(help="How often the time of each way is taken.")] = 3,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The profile. (default: MODEL.profile.json)"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers = "auto",
    attention: say.Attention = "auto",
    as_json: say.Json = False,
) -> None:
    """Find the fastest way to draw within a bound, prove it on images the search never saw, and
    write a profile for `mindsd generate --profile`.

    The table and the profile's path go to stdout, progress to stderr. Ctrl-C prints what was found
    and writes no profile.
    """
    with choose_watch(as_json) as watch:
        trial = Trial(
            model=model,
            bound=bound,
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
        path = output or Path(f"{Path(model).resolve().name}.profile.json")
        check_place(path)
        code = _run(trial, path, watch)
    raise typer.Exit(code)


def _run(trial: Trial, path: Path, watch: Watch) -> int:
    """Tune, write and tell; the exit code."""
    profile, stopped = None, False
    with Interrupt() as interrupt:
        try:
            with heavy_imports():
                from ..measuring import tuned
            profile = tuned(trial, watch, interrupt)
        except KeyboardInterrupt:
            stopped = True
    try:
        if profile is not None:
            profile.write(path)
    except OutputError:  # the place went away meanwhile; what was found is still told
        watch.ended("mean")
        raise
    watch.ended("mean", profile=None if profile is None else str(path), cancelled=stopped)
    if stopped:
        print("cancelled: no profile was written", file=sys.stderr)
        return EXIT_CODE
    if profile is None:
        said = f"nothing faster than plain holds {trial.limits}: no profile was written"
        print(f"mindsd: {said}; try a looser bound or more steps", file=sys.stderr)
        return 1
    return 0
