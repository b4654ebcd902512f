"""What a way of drawing costs and saves: images and seconds, through the engine that users get.

Images are drawn once, for they come out the same each time. Time is taken in turns with plain
drawing (A B A B), so that a machine that slows down slows both; one batch each turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mindsd.aside import aside
from mindsd.errors import RequestError
from mindsd.pipelines.accelerate import check
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.peak import Peak
from mindsd.pipelines.samples import Samples
from mindsd.pipelines.scores import EQUAL, Scores, Timing
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.way import Way
from mindsd.pipelines.yardstick import Measuring
from mindsd.quality import psnr, ssim

PLAIN_WAY = Way()


class Measure:
    """Draws one set of samples in any way asked, each only once.

    Args:
        draw: the loaded model.
        samples: what is drawn.
        pattern: steps, guidance, scheduler and size of all; prompts and seeds are the samples'.
        batch: images drawn at once.
        rounds: how often the time is taken.
        told: is told what is being drawn.
    """

    def __init__(
        self,
        draw: TextToImage,
        samples: Samples,
        pattern: ImageParameters,
        *,
        batch: int = 4,
        rounds: int = 3,
        told: Callable[[Measuring], None] = lambda event: None,
    ):
        self.batch = min(batch, len(samples))
        self.peaks: dict[Way, int] = {}  # bytes, of the ways where somebody knows
        self._draw = draw
        self._samples = samples
        self._pattern = pattern
        self._rounds = rounds
        self._told = told
        self._plain: list[np.ndarray] = []
        self._rows: dict[Way, list[_Row]] = {}
        self._timings: dict[Way, Timing] = {}

    @property
    def number(self) -> int:
        return len(self._samples)

    def refuses(self, way: Way) -> str | None:
        """Why the model cannot draw so; None when it can."""
        try:
            check(self._draw.pipe, self._draw.model.denoisers, way.acceleration)
        except RequestError as error:
            return str(error)
        return None

    def scores(self, way: Way, number: int) -> Scores:
        """How the first `number` images drawn so compare with the plain ones."""
        self._plain += self._images(PLAIN_WAY, len(self._plain), number)
        rows = self._rows.setdefault(way, [])
        first = len(rows)
        drawn = self._plain[first:number] if way.is_plain else self._images(way, first, number)
        # SSIM computes with torch: on a thread that ends, or its workers would slow the engine's.
        rows += aside(lambda: [self._row(place, own) for place, own in enumerate(drawn, first)])
        return self._scored(way, number)

    def timing(self, way: Way) -> Timing:
        """Its seconds for one image, in turns with plain."""
        return self.timings([way])[way]

    def timings(self, ways: Sequence[Way]) -> dict[Way, Timing]:
        """The same of several ways, all in turns (A B C A B C); each round starts with plain."""
        new = [way for way in ways if way not in self._timings]
        seconds: dict[Way, list[float]] = {way: [] for way in (PLAIN_WAY, *new)}
        for done in range(self._rounds if new else 0):
            for way in seconds:
                self._told(Measuring(way, "rounds", done, self._rounds))
                began = time.perf_counter()
                self._batch(way, 0, self.batch)
                seconds[way].append((time.perf_counter() - began) / self.batch)
            for way in new:  # after every round, so that whoever stops it has those that are whole
                self._timings[way] = Timing(tuple(seconds[way]), tuple(seconds[PLAIN_WAY]))
        return self.known(ways)

    def known(self, ways: Sequence[Way]) -> dict[Way, Timing]:
        """Times that were taken already, of those of the ways that have any."""
        return {way: self._timings[way] for way in ways if way in self._timings}

    def _images(self, way: Way, first: int, end: int) -> list[np.ndarray]:
        """Images `first` to `end`, drawn in batches; uint8 [H, W, 3]."""
        images: list[np.ndarray] = []
        for start in range(first, end, self.batch):
            self._told(Measuring(way, "images", start, end))
            with Peak(self._draw.model.device.kind) as peak:
                images += self._batch(way, start, min(start + self.batch, end))
            if peak.bytes is not None:
                self.peaks[way] = max(self.peaks.get(way, 0), peak.bytes)
        return images

    def _batch(self, way: Way, first: int, end: int) -> list[np.ndarray]:
        pattern = self._pattern
        drawn = self._draw(
            self._samples.prompts[first:end],
            seed=self._samples.seed + first,
            acceleration=way.acceleration,
            steps=way.steps or pattern.steps,
            guidance=pattern.guidance,
            scheduler=pattern.scheduler,
            width=pattern.width,
            height=pattern.height,
        )
        return [np.asarray(image.convert("RGB")) for image in drawn.images]

    def _row(self, place: int, image: np.ndarray) -> _Row:
        plain = self._plain[place]
        read = self._samples.scenes is not None
        right, plain_right = (read and self._samples.right(place, x) for x in (image, plain))
        return _Row(min(psnr(image, plain), EQUAL), ssim(image, plain), right, plain_right)

    def _scored(self, way: Way, number: int) -> Scores:
        rows = self._rows[way][:number]
        likeness = tuple(row.psnr for row in rows), tuple(row.ssim for row in rows)
        if self._samples.scenes is None:
            return Scores(*likeness)
        right, plain = tuple(row.right for row in rows), tuple(row.plain_right for row in rows)
        return Scores(*likeness, right, plain)


@dataclass(frozen=True)
class _Row:
    """One image beside its plain one."""

    psnr: float
    ssim: float
    right: bool
    plain_right: bool
