"""The same image drawn with all of its work and with less: how long each took, how alike they are.

One after the other, each alone in its forwards, unless somebody else draws meanwhile. Before both a
few steps are drawn that do not count, for what is made at first use would count against the first.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from mindsd.errors import MindsdError
from mindsd.quality import psnr, ssim
from mindsd.request import Done

from ..server.image_bodies import ImageBody
from ..server.image_task import ImageTask
from ..server.job import Job
from ..server.refusal import STOPPED, Refusal, refusal_of
from ..server.service import Service
from .submitting import submit

WARM = 2  # steps that do not count
PHASES = ("warming up", "drawing plainly", "drawing with less work")


class Comparison:
    """Lives on the event loop, whether or not a page looks at it.

    Args:
        plain: what is drawn, with its seed.
        speed: a preset that does less.

    Attributes:
        phase: which of `PHASES` runs.
        job: what runs now; None between.
        images, seconds: of the plain one and the other.
        psnr, ssim: how alike they are; `psnr` is infinite for equal ones.
        trouble: why there is no result.
        over: nothing of it runs any more.
    """

    def __init__(self, plain: ImageBody, speed: str) -> None:
        self.plain, self.speed = plain, speed
        self.phase = 0
        self.job: Job | None = None
        self.images: list[Image.Image] = []
        self.seconds: list[float] = []
        self.psnr = self.ssim = math.nan
        self.trouble: str | None = None
        self.over = self.told = False
        self._stopped = False

    @property
    def saved(self) -> float:
        """Share of the time that the second one did not take."""
        return 1 - self.seconds[1] / self.seconds[0]

    @property
    def is_done(self) -> bool:
        return self.over and self.trouble is None

    def cancel(self) -> None:
        self._stopped = True
        if self.job is not None:
            self.job.cancel()

    async def run(self, service: Service, model: str, changed: Callable[[], None]) -> None:
        """See it through."""
        try:
            warm = self.plain.model_copy(update={"steps": WARM})
            await self._draw(service, model, warm, changed)
            for speed in ("lossless", self.speed):
                self.phase += 1
                image, seconds = await self._draw(
                    service, model, self.plain.model_copy(update={"speed": speed}), changed
                )
                self.images.append(image)
                self.seconds.append(seconds)
            self.psnr = await asyncio.to_thread(psnr, self.images[1], self.images[0])
            self.ssim = await asyncio.to_thread(ssim, self.images[1], self.images[0])
        except (Refusal, MindsdError) as error:
            self.trouble = refusal_of(error).message
        finally:
            self.job, self.over = None, True
            changed()

    async def _draw(
        self, service: Service, model: str, body: ImageBody, changed: Callable[[], None]
    ) -> tuple[Image.Image, float]:
        """One image, and the seconds from its start to its end."""
        if self._stopped:
            raise replace(STOPPED)
        task = ImageTask(body, service.hub.shelf)
        job, told = await submit(service, "image", model, 1, task)
        self.job = job
        if self._stopped:  # while it was submitted
            job.cancel()
        seconds = 0.0
        async with job:
            async for _, event in told:
                if isinstance(event, Done):
                    seconds = event.seconds
                changed()
            await job.wait()
            return (await job.finished())[0], seconds
