"""The report, the contact sheets and the grids of a run, made anew from what is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from .contact_sheet import SIDE, contact_sheet, labelled_grid
from .grid import Cell, describe_cell
from .pictures import MISSING, MOST, Shown, shown, thumbnail
from .plan import Job, Plan
from .report import SIDE as REPORT_SIDE
from .report import by_cause, report
from .run_folder import RunFolder, Story, read_story

A_SHEET = 200  # pictures
REPORT = "report.html"
GRIDS = 200  # pictures of grids, at most


def write_overview(folder: RunFolder, plan: Plan, file: Path, seed: int) -> Iterator[Path]:
    """Write all; each path as it is written.

    Raises:
        OutputError: the disk is full.
    """
    story = read_story(folder.path)
    there = shown(story, plan.jobs)
    pictures = [(one, thumbnail(folder.path / one.file, REPORT_SIDE)) for one in there[:MOST]]
    named = [*_sheets(pictures), *_grids(folder.path, story, plan.jobs)]
    for name, content in named:
        yield folder.put(name, content)
    failed = [(line, reason) for line, reason in plan.wrong.items()]
    for job in plan.jobs:
        if (entry := story.failed.get(job.key)) is not None:
            failed.append((job.line, str(entry["error"])))
    facts = {
        "prompt file": file,
        "images": f"{len(story.done)} there, {len(plan.jobs)} asked for",
        "rows that are wrong": len(plan.wrong),
        "seed of the run": seed,
        "seconds of drawing": round(sum(_seconds(one) for one in there), 1),
    }
    text = report(
        f"{file.name} in {folder.path.resolve().name}",
        {name: value for name, value in facts.items() if value != 0 or name.startswith("seed")},
        pictures,
        by_cause(failed),
        [name for name, _ in named],
        max(0, len(there) - MOST),
    )
    yield folder.put(REPORT, text.encode(errors="replace"))


def _seconds(one: Shown) -> float:
    seconds = one.entry.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _sheets(pictures: Sequence[tuple[Shown, Image.Image]]) -> Iterator[tuple[str, bytes]]:
    for number, first in enumerate(range(0, len(pictures), A_SHEET), 1):
        own = [(small, _label(one)) for one, small in pictures[first : first + A_SHEET]]
        name = "contact-sheet.png" if number == 1 else f"contact-sheet-{number}.png"
        yield name, contact_sheet(own)


def _label(one: Shown) -> str:
    number, _, _ = one.file.partition("-")
    return f"{number} {' '.join(one.prompt.split())}\nseed {one.parameters.get('seed')}"


def _grids(folder: Path, story: Story, jobs: Sequence[Job]) -> Iterator[tuple[str, bytes]]:
    families: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if len(job.cell) and len(families) < GRIDS or job.family in families:
            families[job.family].append(job)
    for own in families.values():
        if any(job.key in story.done for job in own):
            name = f"grid-{own[0].name}"
            yield name, _grid(folder, story, own)


def _grid(folder: Path, story: Story, jobs: Sequence[Job]) -> bytes:
    """Columns are the last axis, rows all others."""
    columns = list(dict.fromkeys(job.cell[-1:] for job in jobs))
    rows = list(dict.fromkeys(job.cell[:-1] for job in jobs))
    found: dict[Cell, Job] = {job.cell: job for job in jobs}
    cells = [[_cell(folder, story, found[row + column]) for column in columns] for row in rows]
    first = jobs[0].asked.parameters
    title = f"{first.prompt} (seed {first.seed})"
    return labelled_grid(cells, title, _names(columns), _names(rows))


def _cell(folder: Path, story: Story, job: Job) -> tuple[Image.Image, str]:
    if job.key in story.done:
        return thumbnail(folder / story.files[job.key], SIDE), ""
    return Image.new("RGB", (SIDE, SIDE), MISSING), "missing"


def _names(cells: Sequence[Cell]) -> list[str]:
    return [describe_cell(cell) for cell in cells]
