"""What the server keeps for its pages: a desk for every browser, and whatever runs for it.

A page that is closed or reloaded takes nothing with it: it finds its desk again by the desk's id,
which the browser keeps. Ids are random, and so known to nobody else.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import structlog

from mindsd.config import SPEEDS
from mindsd.pipelines.shelf import Kind

from ..output import OutputFolder
from ..server.image_bodies import ImageBody
from ..server.image_task import ImageTask
from ..server.model_choice import choose_model
from ..server.service import Service
from .comparison import Comparison
from .exhibit import Exhibit
from .run import Run
from .submitting import submit
from .talk import Talk
from .tuned import Tuned, read_profiles

log = structlog.get_logger("mindsd.web")

DESKS = 64  # browsers that are remembered
RUNS = 20  # of one of them


class Desk:
    """What one browser works on.

    Attributes:
        id: by which the browser finds it.
        runs: clicks that draw, the oldest first.
        talk: the conversation.
        comparisons: of speeds, the oldest first.
        change: set at the next change, and then another one.
    """

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.runs: list[Run] = []
        self.talk = Talk()
        self.comparisons: list[Comparison] = []
        self.change = asyncio.Event()

    @property
    def live(self) -> list[Run]:
        return [run for run in self.runs if not run.over]

    @property
    def compares(self) -> bool:
        return any(not one.over for one in self.comparisons)

    @property
    def is_busy(self) -> bool:
        return bool(self.live) or self.compares or self.talk.job is not None

    def begin(self, run: Run) -> None:
        """One more; the oldest that are over are forgotten."""
        ended = [own for own in self.runs if own.over][: max(0, len(self.runs) + 1 - RUNS)]
        self.runs = [*(own for own in self.runs if own not in ended), run]

    def changed(self) -> None:
        """Tell every page that looks at it."""
        self.change.set()
        self.change = asyncio.Event()


class Studio:
    """Belongs to one server, and is used on its event loop alone.

    Args:
        output: folder that pictures go to.
        cache: folder of files that pages may fetch.

    Attributes:
        exhibit: the pictures in the output folder.

    Raises:
        OutputError: the output folder cannot be written.
    """

    def __init__(self, service: Service, output: Path, cache: Path) -> None:
        self.service = service
        self.output = OutputFolder(output, "--pictures")
        self.exhibit = Exhibit(output, cache)
        self._desks: OrderedDict[str, Desk] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    def desk(self, id: object = None) -> Desk:
        """The desk of this id, or a new one."""
        desk = self._desks.pop(id, None) if isinstance(id, str) else None
        desk = desk or Desk()
        self._desks[desk.id] = desk
        idle = [own for own in self._desks.values() if not own.is_busy and own is not desk]
        for own in idle[: max(0, len(self._desks) - DESKS)]:
            del self._desks[own.id]
        return desk

    def models(self, *kinds: Kind) -> list[str]:
        """Ids of these kinds, the loaded ones first; reads the shelf's folder."""
        entries, loaded = self.service.hub.shelf.entries().values(), self.service.hub.loaded()
        found = [own for kind in kinds for own in entries if own.kind == kind]
        return [own.id for own in sorted(found, key=lambda own: own.id not in loaded)]

    def speeds(self) -> list[str]:
        """The names of ours, and ids of profiles; reads the shelf's folder."""
        return [*SPEEDS, *self.service.hub.shelf.profiles()]

    def tuned(self) -> list[Tuned]:
        """What those profiles say."""
        return read_profiles(self.service.hub.shelf.profiles())

    async def draw(self, desk: Desk, body: ImageBody, files: Mapping[str, bytes]) -> Run:
        """Begin to draw.

        Args:
            files: as `ImageTask` takes them.

        Raises:
            Refusal, RequestError: it cannot be drawn, or not now.
        """
        entry = await asyncio.to_thread(choose_model, self.service.hub, body.model, "image")
        task = ImageTask(body, self.service.hub.shelf, files)
        job, told = await submit(self.service, "image", entry.id, len(task.asked), task)
        run = Run(job, task)
        desk.begin(run)
        self.spawn(run.follow(told, self.output, desk.changed))
        desk.changed()
        return run

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it to its end, whatever becomes of the page."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._end)

    async def settled(self) -> None:
        """Until all that was spawned has ended."""
        while self._running:
            await asyncio.wait(self._running)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the page's work failed", exc_info=error)
