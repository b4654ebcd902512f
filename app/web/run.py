"""One click's images: a job of the server, and the files that it comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from PIL import Image

from mindsd.errors import OutputError
from mindsd.request import Done, Notice, Preview, Started

from ..output import OutputFolder
from ..server.image_task import ImageTask
from ..server.job import Job, Told
from .status import rough


class Run:
    """Lives on the event loop, whether or not a page looks at it.

    Attributes:
        job, task: what runs, and what was asked.
        files: written, by the place among its images.
        roughs: URLs of the newest rough picture of each image that is not finished.
        notices: what the engine wants known.
        trouble: why there is less than was asked; None where there is not.
        begun: `time.monotonic` of the first step's start; None before.
        seconds: from then to its end; None before.
        over: nothing of it runs any more and all files are written.
        told: a page has shown its trouble.
    """

    def __init__(self, job: Job, task: ImageTask) -> None:
        self.job, self.task = job, task
        self.files: dict[int, Path] = {}
        self.roughs: dict[int, str] = {}
        self.notices: list[str] = []
        self.trouble: str | None = None
        self.begun: float | None = None
        self.seconds: float | None = None
        self.over = False
        self.told = False

    @property
    def seeds(self) -> list[int]:
        return [one.seed for one in self.task.asked]

    async def follow(
        self, told: AsyncIterator[Told], output: OutputFolder, changed: Callable[[], None]
    ) -> None:
        """See it through: every finished image becomes a file, also where the others fail."""
        async with self.job:
            async for place, event in told:
                if isinstance(event, Started):
                    self.begun = self.begun or time.monotonic()
                elif isinstance(event, Preview):
                    self.roughs[place] = await asyncio.to_thread(rough, event.image)
                elif isinstance(event, Notice) and event.text not in self.notices:
                    self.notices.append(event.text)
                elif isinstance(event, Done):
                    await self._write(place, event.result, output)
                changed()
            await self.job.wait()
        if self.job.refusal is not None:
            self.trouble = self.trouble or self.job.refusal.message
        self.seconds = None if self.begun is None else time.monotonic() - self.begun
        self.roughs.clear()
        self.over = True
        changed()

    async def _write(self, place: int, image: Image.Image, output: OutputFolder) -> None:
        encoding, record = self.task.body.encoding, self.task.records[place]
        try:
            self.files[place] = await asyncio.to_thread(
                lambda: output.add(encoding.encode(image, record), encoding.ending)
            )
        except OutputError:
            self.trouble = "the output folder cannot be written; is the disk full?"
        self.roughs.pop(place, None)
