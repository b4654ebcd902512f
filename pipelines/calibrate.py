"""The best step plans of a loaded model, from plain runs of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from mindsd.pipelines.own import own_copy
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.samples import Samples
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.way import Way
from mindsd.pipelines.yardstick import Measuring
from mindsd.stepcache.calibration import Calibration
from mindsd.stepcache.plan import StepCache

ENOUGH = 8  # images: plans from 8 and from 12 others were the same, or a step apart


def calibrate(
    draw: TextToImage,
    samples: Samples,
    pattern: ImageParameters,
    told: Callable[[Measuring], None] = lambda event: None,
) -> dict[int, StepCache]:
    """The best plan for every count of computed steps; nothing where a model has no scheduler.

    Draws a few of the samples plainly, outside the engine, with the model's own modules.

    Args:
        pattern: steps, guidance, scheduler and size of all.
        told: is told of every image.
    """
    if not hasattr(draw.pipe, "scheduler"):
        return {}
    named = pattern.scheduler
    parts = {} if named is None else {"scheduler": draw.arguments.scheduler(named)}
    generator = torch.Generator()
    mine: Any = own_copy(draw.pipe, lambda done, total: None, generator=generator, parts=parts)
    number = min(ENOUGH, len(samples))
    with Calibration(mine.scheduler) as calibration:
        for place in range(number):
            told(Measuring(Way(), "images to calibrate on", place, number))
            one = replace(pattern, prompt=samples.prompts[place], seed=samples.seed + place)
            fixed = {"generator": generator.manual_seed(one.seed), "output_type": "latent"}
            taken = {name: own for name, own in fixed.items() if name in draw.arguments.accepted}
            mine(**draw.arguments.of(one), **taken)
        return calibration.plans()
