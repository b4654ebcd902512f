"""`mindsd batch`: a file of prompts to a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mindsd.errors import RequestError

from .. import image_options as say
from ..device_options import Device, Dtype, Layers
from ..options import DRAW_SEED
from ..runs.company import TOGETHER

Text = str | None
File = Path | None
Whole = int | None
Real = float | None


def batch(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE [NAME=VALUE,VALUE]...",
            show_default=False,
            help="Prompts: .txt, .csv, .tsv or .jsonl; then more axes of --grid.",
        ),
    ],
    output: say.Output = Path("out"),
    images: Annotated[int, typer.Option("-n", "--images", help="Images of each row.")] = 1,
    model: say.Model = "tiny-sd",
    negative_prompt: say.Negative = None,
    steps: say.Steps = None,
    guidance: say.Guidance = None,
    seed: Annotated[
        Whole, typer.Option(help="Of the run: decides the seeds of rows without. (default: any)")
    ] = None,
    size: say.Size = None,
    scheduler: say.Scheduler = None,
    image: say.Image = None,
    mask: say.Mask = None,
    strength: say.Strength = None,
    speed: say.Speed = None,
    profile: say.Profile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Use profiles of other models, too.")
    ] = False,
    step_cache: say.StepCache = None,
    token_merge: say.TokenMerge = None,
    guidance_until: say.GuidanceUntil = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE,VALUE", help="Every row with each; may be said again."),
    ] = None,
    wildcards: Annotated[
        File, typer.Option(metavar="FOLDER", help="Of NAME.txt files, for __NAME__ in prompts.")
    ] = None,
    combinations: Annotated[
        bool, typer.Option("--combinations", help="All ways of {a|b}, in place of one by chance.")
    ] = False,
    no_wildcards: Annotated[
        bool,
        typer.Option("--no-wildcards", help="Leave {a|b} and __NAME__ in prompts as they are."),
    ] = False,
    loras: say.Loras = None,
    weighted: say.Weighted = None,
    limit: Annotated[Whole, typer.Option(help="At most so many images now.")] = None,
    shard: Annotated[
        Text, typer.Option(metavar="I/N", help="Part I of N, beside other processes.")
    ] = None,
    together: Annotated[
        int, typer.Option(metavar="K", help="Images drawn together; decides how they are rounded.")
    ] = TOGETHER,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: Layers = "auto",
    attention: say.Attention = "auto",
    vae: say.Vae = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be drawn, and draw nothing.")
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Leave out report.html, sheets and grids.")
    ] = False,
    as_json: say.Json = False,
    quiet: say.Quiet = False,
) -> None:
    """Draw every row of a file: a prompt a line, or a table or JSON lines that name options.

    What is there is skipped, so the same command goes on where it stopped, also after a kill. A
    row may say prompt, n, seed, negative_prompt, steps, guidance, size, scheduler, image, mask,
    strength, speed, model and so on; options here are for rows that don't. Pictures in the file
    are meant from where it lies. The paths go to stdout, progress to stderr.
    """
    from ..runs.grid import parse_grid  # the command line answers without all this
    from ..runs.live_progress import choose_progress
    from ..runs.lock import Shard
    from ..runs.order import BatchOrder
    from ..runs.run import rehearse, run
    from ..runs.wildcards import Wildcards

    said = {
        "n": images,
        "model": model,
        "negative_prompt": negative_prompt,
        "steps": steps,
        "guidance": guidance,
        "size": size,
        "scheduler": scheduler,
        "image": image,
        "mask": mask,
        "strength": strength,
        "speed": speed,
        "profile": profile,
        "step_cache": step_cache,
        "token_merge": token_merge,
        "guidance_until": guidance_until,
    }
    if no_wildcards and wildcards is not None:
        raise RequestError("say --wildcards or --no-wildcards, one of the two")
    file, *more = arguments
    if others := [own for own in more if "=" not in own]:
        said = f"one file at a time: {file} is followed by {others[0]}"
        raise RequestError(f"{said}, which is no NAME=VALUE,VALUE of --grid either")
    with choose_progress(as_json, quiet) as progress:
        order = BatchOrder(
            file=Path(file),
            output=output,
            defaults={name: value for name, value in said.items() if value is not None},
            grid=tuple(parse_grid([*(grid or ()), *more])),
            wildcards=None if no_wildcards else Wildcards(wildcards),
            combine=combinations,
            seed=None if seed == DRAW_SEED else seed,
            loras=loras,
            weighted=weighted,
            force=force,
            limit=limit,
            shard=Shard() if shard is None else Shard.parse(shard),
            together=together,
            device=device,
            dtype=dtype,
            attention=attention,
            layers=layers,
            vae=vae,
        )
        if dry_run:
            progress.__exit__()
            raise typer.Exit(rehearse(order, as_json))
        raise typer.Exit(run(order, progress, not no_report))
