"""`mindsd complete`: the prompts of a file, answered into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..answer_file import AnswerFile
from ..batch import Batch
from ..batch_progress import BatchLines, BatchTally, choose_batch_progress
from ..batch_run import run_batch
from ..completions import language_models
from ..device_options import Device, Dtype, LanguageLayers
from ..interrupt import Interrupt
from ..libraries import heavy_imports
from ..prompt_lines import ANSWERS, PromptLines
from ..text_options import BatchOrder

Text = str | None
Whole = int | None
Real = float | None


def complete(
    input: Annotated[
        Path, typer.Option("-i", "--input", show_default=False, help="JSON lines: the prompts.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", show_default=False, help="JSON lines: answers are added."),
    ],
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="smollm2, a transformers folder or a .gguf file.",
            autocompletion=language_models,
        ),
    ] = "smollm2",
    system: Annotated[Text, typer.Option(help="Said before each prompt that is a text.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Go on with texts, in place of answering them.")
    ] = False,
    max_tokens: Annotated[Whole, typer.Option(help="Of one answer. (default: 256)")] = None,
    temperature: Annotated[
        Real, typer.Option(help="0 takes the likeliest token. (default: the model's; else 1)")
    ] = None,
    top_p: Annotated[
        Real,
        typer.Option(
            help="Only the likeliest tokens of this share. (default: the model's; else 1)"
        ),
    ] = None,
    number: Annotated[
        Whole, typer.Option("-n", help="Answers to each prompt. (default: 1)")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text that ends an answer; may be said again.")
    ] = None,
    seed: Annotated[
        Whole, typer.Option(help="With its number the seed of a line without. (default: any)")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    layers: LanguageLayers = "auto",
) -> None:
    """Answer each line of a file: {"prompt": "..."}, {"messages": [...]} or a text as JSON.

    A line may have an "id" and options of its own (max_tokens, temperature, seed, n, stop,
    logprobs, json_schema, regex, choice, ...). A model that sees takes pictures as parts of a
    message, {"type": "image", "image": "path"} or an image_url that holds the data. Answers are
    added to the output as they come, in any order; lines that it holds already are skipped, so the
    same command goes on where it stopped.
    """
    said = {
        "system": system,
        "chat": False if raw else None,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "n": number,
        "stop": stop or None,
    }
    defaults = {name: value for name, value in said.items() if value is not None}
    order = BatchOrder(input, output, model, defaults, seed, device, dtype, layers)
    with choose_batch_progress() as progress, AnswerFile(output, ANSWERS) as answers:
        raise typer.Exit(_run(order, answers, progress))


def _run(order: BatchOrder, answers: AnswerFile, progress: BatchLines) -> int:
    """Answer and tell how it went; the exit code."""
    lines = PromptLines(order.input, frozenset(answers.answered))
    tally = BatchTally(*lines.count())

    def work(interrupt: Interrupt) -> None:
        with heavy_imports():
            from ..completing import Completing, load
        with load(order) as text:
            interrupt.check()
            Batch(Completing(text, order, answers), tally, progress).run(lines, interrupt)

    return run_batch(order.model, work, tally, progress, errors=f'see "error" in {order.output}')
