"""`mindsd describe`: pictures to captions, many in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..answer_file import AnswerFile
from ..batch import Batch
from ..batch_progress import BatchLines, BatchTally, choose_batch_progress
from ..batch_run import run_batch
from ..caption_lines import CaptionLines
from ..completions import vision_models
from ..describe_options import DescribeOrder
from ..device_options import Device, Dtype, LanguageLayers
from ..interrupt import Interrupt
from ..libraries import heavy_imports
from ..picture_files import CAPTIONS, without_caption

Text = str | None
Whole = int | None


def describe(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PICTURE", show_default=False, help="Files, and folders of png, jpg and webp."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            show_default=False,
            help="JSON lines: captions are added.",
        ),
    ] = None,
    question: Annotated[
        Text, typer.Option(help="Asked about each. (default: a description)")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="tiny-vlm, or a transformers folder that sees.",
            autocompletion=vision_models,
        ),
    ] = "tiny-vlm",
    max_tokens: Annotated[Whole, typer.Option(help="Of one caption. (default: 256)")] = None,
    limit: Annotated[Whole, typer.Option(help="At most so many pictures now.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: LanguageLayers = "auto",
) -> None:
    """Describe pictures, or answer a question about each, many in one batch.

    Captions come in any order. In the output pictures that have one of this question are skipped,
    unless they changed, and those with an error tried again: the same command goes on where it
    stopped. Without
    --output they are printed, the path, a tab and the caption on a line.
    """
    sampling = {} if max_tokens is None else {"max_tokens": max_tokens}
    given = tuple(pictures or ())
    where = device, dtype, layers
    order = DescribeOrder(given, output, model, question, sampling, limit, *where)
    with choose_batch_progress() as progress:
        into = CaptionLines(progress) if output is None else AnswerFile(output, CAPTIONS)
        with into as captions:
            raise typer.Exit(_run(order, captions, progress))


def _run(order: DescribeOrder, captions: AnswerFile | CaptionLines, progress: BatchLines) -> int:
    """Describe and tell how it went; the exit code."""
    left = without_caption(order.paths, captions.answered, order.asked)
    now = left if order.limit is None else left[: order.limit]
    tally = BatchTally(len(now), len(order.paths) - len(left))

    def work(interrupt: Interrupt) -> None:
        with heavy_imports():
            from ..describing import Describing, load
        with load(order) as chat:
            interrupt.check()
            Batch(Describing(chat, order, captions), tally, progress).run(now, interrupt)

    if order.output is None:
        return run_batch(order.model, work, tally, progress, again="name the others again")
    return run_batch(order.model, work, tally, progress, errors=f'see "error" in {order.output}')
