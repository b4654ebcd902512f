"""What a run would draw, without drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

from ..progress import describe_seconds
from .plan import Job, Plan
from .run_folder import Story

FIRST = 5  # jobs that are told one by one
PIXEL = 1.7  # bytes that a pixel of a photo takes in a PNG, about


def dry_run(
    plan: Plan, todo: Sequence[Job], story: Story, seed: int, is_chance: bool
) -> dict[str, Any]:
    """What there is to know.

    Args:
        todo: of the plan, what would be drawn now.
        seed: of the run.
        is_chance: another run has another one.
    """
    there = sum(job.key in story.done for job in plan.jobs)
    bytes_each, guessed = _bytes_each(todo, story)
    seconds = [e["seconds"] for e in story.done.values() if _is_number(e.get("seconds"))]
    return {
        "images": len(todo),
        "planned": len(plan.jobs),
        "skipped": there,
        "wrong": len(plan.wrong),
        "seed": seed,
        "seed_is_example": is_chance,
        "sizes": sorted({_size(job) for job in todo}),
        "bytes": None if bytes_each is None else round(bytes_each * len(todo)),
        "bytes_guessed": guessed,
        "seconds": round(mean(seconds) * len(todo), 1) if seconds else None,
        "first": [_told(job) for job in todo[:FIRST]],
    }


def describe_dry_run(told: dict[str, Any]) -> Iterator[str]:
    """The same for people, line by line."""
    sizes = ", ".join(told["sizes"]) or "none"
    images = "1 image" if told["images"] == 1 else f"{told['images']} images"
    yield f"{images} would be drawn ({sizes}), of {told['planned']} planned"
    there = "1 is" if told["skipped"] == 1 else f"{told['skipped']} are"
    rows = "1 row is" if told["wrong"] == 1 else f"{told['wrong']} rows are"
    yield f"{there} there already, {rows} wrong"
    if told["bytes"] is not None:
        how = "guessed from the sizes" if told["bytes_guessed"] else "as those that are there"
        yield f"disk: about {told['bytes'] / 2**20:.1f} MiB ({how})"
    else:
        yield "disk: not known before the first image, for the model chooses the size"
    if told["seconds"] is not None:
        yield f"time: about {describe_seconds(told['seconds'])}, as those that are there"
    else:
        yield "time: not known before the first image"
    if told["seed_is_example"]:
        fixed = f"--seed {told['seed']} fixes them"
        yield f"seeds and choices of rows without a seed are examples: {fixed}"
    for one in told["first"]:
        further = ", ".join(f"{k} {v}" for k, v in one["settings"].items())
        yield f"  {one['file']}: seed {one['seed']}{', ' * bool(further)}{further}"
    if told["images"] > len(told["first"]):
        yield f"  and {told['images'] - len(told['first'])} more"


def _size(job: Job) -> str:
    asked = job.asked.parameters
    if asked.width is None and asked.height is None:
        return "the picture's size" if job.asked.pictures else "the model's size"
    return f"{asked.width or asked.height}x{asked.height or asked.width}"


def _bytes_each(todo: Sequence[Job], story: Story) -> tuple[float | None, bool]:
    """Bytes of an image, and whether they are a guess."""
    known = [e["bytes"] for e in story.done.values() if _is_number(e.get("bytes"))]
    if known:
        return mean(known), False
    sides = [(job.asked.parameters.width, job.asked.parameters.height) for job in todo]
    pixels = [(w or h or 0) * (h or w or 0) for w, h in sides]
    return (mean(pixels) * PIXEL, True) if pixels and all(pixels) else (None, True)


def _told(job: Job) -> dict[str, Any]:
    asked = job.asked
    names = ("steps", "guidance", "scheduler", "strength", "negative_prompt")
    settings = {k: getattr(asked.parameters, k) for k in names}
    settings |= {"model": asked.model, **asked.parameters.acceleration.as_json()}
    return {
        "file": job.name,
        "line": job.line,
        "prompt": asked.parameters.prompt,
        "seed": asked.parameters.seed,
        "settings": {k: v for k, v in settings.items() if v is not None},
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
