"""A chat about a picture beside a batch of images, on one engine."""

from __future__ import annotations

import statistics
import threading
import time

from language_worker import GREEDY, arrived
from PIL import Image
from vision_asked import MEMORY, pictures
from vision_job import Found, Job

from mindsd.engine import Engine, Limits
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import load_language
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.vision_chat import DESCRIBE, VisionChat, shown
from mindsd.request import Done, Event, Failed, Step

PROMPT = "a red circle on a white background"
LEAST = 10  # gaps between tokens that say something


class Images:
    """A batch that is being drawn."""

    def __init__(self, draw: TextToImage, job: Job):
        self.running = threading.Event()
        self.ended: float | None = None
        self._left, self._began = job.images, time.perf_counter()
        asked = [ImageParameters(PROMPT, steps=job.steps, seed=seed) for seed in range(job.images)]
        self._requests = [draw.submit(own) for own in asked]
        for request in self._requests:
            request.redirect(self._hear)

    def seconds(self) -> float:
        """That all of them took, once they are drawn."""
        for request in self._requests:
            request.result()
        assert self.ended is not None
        return self.ended - self._began

    def _hear(self, event: Event) -> None:
        if isinstance(event, Step | Failed):
            self.running.set()
        if isinstance(event, Done | Failed):
            self._left -= 1
            if not self._left:
                self.ended = time.perf_counter()


def beside(job: Job) -> Found:
    """A chat alone, images alone, or chats one after the other for as long as images are drawn."""
    [picture] = pictures(1, job.side)
    limits = Limits(rows=2 * job.images)  # all of them are in one forward, with guidance
    loaded = load_language(job.folder, "cpu", job.dtype, CacheOptions(memory=MEMORY))
    with (
        Engine(limits) as engine,
        VisionChat(loaded, engine) as chat,
        TextToImage(load_model("tiny-sd", "cpu", job.dtype), engine) as draw,
    ):
        talk(chat, picture, 4)
        draw(PROMPT, steps=1, seed=0)
        if job.way == "chat":
            return Found(_gaps(talk(chat, picture, job.new)))
        images, gaps = Images(draw, job), []
        if job.way == "both":
            images.running.wait()
            while images.ended is None:
                gaps += [own for own in talk(chat, picture, job.new) if _within(own, images)]
        seconds = images.seconds()
        return Found({"images": seconds, **(_gaps(gaps) if job.way == "both" else {})})


Gap = tuple[float, float]
"""When a token came, and how long after the one before."""


def talk(chat: VisionChat, picture: Image.Image, number: int) -> list[Gap]:
    """The gaps between the tokens of one streamed answer."""
    asked = [shown(picture, DESCRIBE)]
    at = [when for when, _ in arrived(chat.submit(asked, max_tokens=number, **GREEDY))]
    return [(later, later - earlier) for earlier, later in zip(at, at[1:], strict=False)]


def _within(gap: Gap, images: Images) -> bool:
    return images.ended is None or gap[0] <= images.ended


def _gaps(gaps: list[Gap]) -> dict[str, float]:
    if len(gaps) < LEAST:
        raise RuntimeError(f"{len(gaps)} gaps between tokens say nothing; draw more or longer")
    took = sorted(gap for _, gap in gaps)
    hundredths = statistics.quantiles(took, n=100)
    shares = {"p50": hundredths[49], "p90": hundredths[89], "p99": hundredths[98]}
    return {"gaps": len(took), **shares, "longest": took[-1]}
