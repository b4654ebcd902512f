"""What may be said of an image on a command line, the same for every command that draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completions import image_models, samplers, speeds

Text = str | None
File = Path | None
Whole = int | None
Real = float | None

Model = Annotated[
    str,
    typer.Option(
        "-m", "--model", help="Embedded model or diffusers folder.", autocompletion=image_models
    ),
]
Negative = Annotated[Text, typer.Option("--negative", help="What to stay away from.")]
Steps = Annotated[Whole, typer.Option(help="Denoising steps. (default: the model's)")]
Guidance = Annotated[Real, typer.Option(help="Guidance scale. (default: the model's)")]
Size = Annotated[Text, typer.Option(metavar="WxH", help="Pixels. (default: the model's)")]
Scheduler = Annotated[
    Text,
    typer.Option(
        help='As in "Euler a", "DPM++ 2M Karras" or DDIMScheduler.', autocompletion=samplers
    ),
]
Image = Annotated[File, typer.Option(help="Picture to draw anew.")]
Mask = Annotated[File, typer.Option(help="Draw --image anew only where this is white.")]
Strength = Annotated[Real, typer.Option(help="How much of --image is drawn anew, up to 1.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Speed = Annotated[
    Text,
    typer.Option(
        help="lossless, quality, balanced or fast: how much may be left out.",
        autocompletion=speeds,
    ),
]
Profile = Annotated[File, typer.Option(help="What mindsd tune wrote for the model.")]
StepCache = Annotated[
    Text,
    typer.Option(
        metavar="PLAN", help="skip:2, tolerance:0.01, interval:2, adaptive:0.1, plan:1-01..."
    ),
]
TokenMerge = Annotated[
    Text, typer.Option(metavar="SHARE", help="Of the tokens, up to 0.75; or downsample.")
]
GuidanceUntil = Annotated[
    Real, typer.Option(metavar="SHARE", help="Of the steps that guidance lasts.")
]
Loras = Annotated[
    File, typer.Option(metavar="FOLDER", help="Of files, for <lora:name:0.8> in prompts.")
]
Weighted = Annotated[
    bool | None,
    typer.Option(
        "--weighted/--not-weighted",
        help="Whether (word:1.2) and [word] weigh. (default: where there are some)",
    ),
]
Attention = Annotated[
    str,
    typer.Option(
        help="auto; off: diffusers' own; on an NPU sparse:0.5 or a package (docs/npu.md)."
    ),
]
Vae = Annotated[
    File,
    typer.Option(
        metavar="FOLDER", help="AutoencoderTiny or AutoencoderKL in place of the model's own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line, for machines.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the paths only.")]
