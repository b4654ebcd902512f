"""The loaded model that `mindsd tune` and `mindsd bench` work on.

Imports torch and diffusers; the commands import what imports this file when they run.
"""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from typing import Self

import diffusers
import torch

import mindsd
from mindsd.errors import RequestError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.measure import Measure
from mindsd.pipelines.profile import Measured, Profile
from mindsd.pipelines.samples import PROMPTS, Samples, prompt_samples, scene_samples
from mindsd.pipelines.scores import Spread, share
from mindsd.pipelines.search import Tried
from mindsd.pipelines.text_to_image import TextToImage

from .drawing import settle
from .interrupt import Interrupt
from .trial import Trial
from .watch import Watch


class Workbench:
    """The model of a trial, loaded, with every choice of how it draws made.

    Attributes:
        draw: the loaded model.
        pattern: how every image is drawn.
        steps: that a plain image takes.
        samples: two sets of images, the second for what was found on the first.

    Raises:
        RequestError: the model cannot draw what is asked.
        KeyboardInterrupt: a signal came while it was loaded.
    """

    def __init__(self, trial: Trial, watch: Watch, interrupt: Interrupt):
        self._trial = trial
        self._watch = watch
        names = ("device", "dtype", "attention", "layers")
        where = {name: getattr(trial, name) for name in names}
        self.draw = TextToImage.load(trial.model, **where)
        try:
            interrupt.check()
            self.pattern = settle(self.draw, trial.pattern)
            if self.pattern.steps is None:
                raise RequestError(f"{self.draw.model.name} has no usual number; say --steps")
            self.steps = self.pattern.steps
        except BaseException:
            self.draw.close()
            raise
        self.samples = _samples(trial)

    def measure(self, samples: Samples) -> Measure:
        """What answers for these samples."""
        trial = self._trial
        return Measure(
            self.draw,
            samples,
            self.pattern,
            batch=trial.batch,
            rounds=trial.rounds,
            told=self._watch.measuring,
        )

    @property
    def dtype(self) -> str:
        return str(self.draw.pipe.dtype).removeprefix("torch.")

    def profile(self, winner: Tried) -> Profile:
        """What was found, to be kept."""
        pattern, model = self.pattern, self.draw.model
        assert self._trial.limits is not None and pattern.width and pattern.height
        versions = {
            "mindsd": mindsd.__version__,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        }
        return Profile(
            model=model.name,
            fingerprint=fingerprint(self.draw.pipe),
            device=model.device.kind,
            machine=model.device.name,
            dtype=self.dtype,
            steps=self.steps,
            guidance=pattern.guidance,
            scheduler=pattern.scheduler,
            width=pattern.width,
            height=pattern.height,
            batch=min(self._trial.batch, self._trial.images),
            bound=str(self._trial.limits),
            acceleration=winner.way.acceleration,
            measured=_measured(winner),
            versions=versions,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.draw.close()


def _samples(trial: Trial) -> tuple[Samples, Samples]:
    if trial.reads:
        return scene_samples(trial.images)
    return prompt_samples(trial.images, trial.texts or PROMPTS)


def _measured(winner: Tried) -> Measured:
    scores, timing = winner.scores, winner.timing
    assert scores is not None and timing is not None
    psnr, ssim = Spread.of(scores.psnr), Spread.of(scores.ssim)
    least, middle, most = timing.speedups
    return Measured(
        images=len(scores),
        seconds_plain=statistics.median(timing.plain),
        seconds=timing.median,
        speedup_least=least,
        speedup=middle,
        speedup_most=most,
        psnr=psnr.mean,
        psnr_p10=psnr.p10,
        ssim=ssim.mean,
        ssim_p10=ssim.p10,
        right=share(scores.right),
        right_plain=share(scores.plain_right),
    )
