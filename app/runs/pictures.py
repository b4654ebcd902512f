"""What the report and the sheets show: every picture of a run with its entry, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mindsd.errors import RequestError
from mindsd.pipelines.picture import read_picture

from .plan import Job
from .run_folder import Story

MOST = 1000  # pictures shown: reading them takes its time after every run
MISSING = (235, 235, 235)


@dataclass(frozen=True)
class Shown:
    """One picture.

    Attributes:
        file: its name in the folder.
        parameters: as the manifest tells them.
        entry: all that the manifest tells.
    """

    file: str
    parameters: dict[str, Any]
    entry: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.parameters.get("prompt", ""))


def shown(story: Story, jobs: Sequence[Job]) -> list[Shown]:
    """The pictures that are there: those of the plan first, then those of other prompt files."""
    order = {job.key: job.number for job in jobs}
    keys = sorted(story.done, key=lambda key: (order.get(key, len(order) + 1), story.files[key]))
    return [_shown(story, key) for key in keys]


def thumbnail(file: Path, side: int) -> Image.Image:
    """A picture within a square of so many pixels; a grey one where it cannot be read."""
    try:
        small = read_picture(file)
    except RequestError:
        return Image.new("RGB", (side, side), MISSING)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _shown(story: Story, key: str) -> Shown:
    entry = story.done[key]
    parameters = entry.get("parameters")
    known = parameters if isinstance(parameters, dict) else {}
    return Shown(story.files[key], known, entry)
