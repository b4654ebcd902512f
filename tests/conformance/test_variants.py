"""Editing and control pipelines under a step cache; diffusers' own refuses most of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionSAGPipeline

from mindsd import TextToImage
from mindsd.batching.stack import merge
from mindsd.config import Acceleration
from mindsd.errors import RequestError
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.parameters import ImageParameters
from mindsd.stepcache import cache as caching
from mindsd.stepcache.plan import StepCache
from tests.zoo.cases import CASES, SIDE, VARIANTS, Case
from tests.zoo.drawing import distance, held, plain

STEPS = 8


def drawn(case: Case, text: str, **more: Any) -> torch.Tensor:
    asked = {**case.asked()[0], "num_inference_steps": STEPS, **more}
    if not text:
        return plain(case.pipe(), asked)
    with accelerate(case.pipe(), Acceleration(StepCache.parse(text + ",least=1"))):
        return plain(case.pipe(), asked)


@pytest.mark.parametrize("case", VARIANTS.values(), ids=VARIANTS.keys())
def test_it_is_cached_like_its_family(case: Case):
    reference = drawn(case, "")
    assert torch.equal(drawn(case, "interval:1"), reference)
    for text in ("interval:2", "adaptive:9"):
        image = drawn(case, text)
        assert not torch.equal(image, reference) and distance(image, reference) < 0.5
    assert torch.equal(drawn(case, ""), reference)


def test_several_pictures_of_one_call():
    """Each row has its own cell: the first of two pictures is what it is alone."""
    case = CASES["flux kontext"]
    more = {"num_images_per_prompt": 2}
    with accelerate(case.pipe(), Acceleration(StepCache.parse("interval:2,least=1"))):
        asked = {**case.asked()[0], "num_inference_steps": STEPS}
        alone = plain(case.pipe(), asked)
        together = plain(case.pipe(), asked | more)
    assert distance(together, alone) < 1e-5


def test_rows_that_come_as_lists_keep_their_own_in_a_live_batch(monkeypatch: pytest.MonkeyPatch):
    """Z-Image's forwards are divided, too: some rows are whole while others are shallow."""
    case, mixed = CASES["z-image"], []

    def spy(results: list[Any], parts: list[list[int]]) -> Any:
        mixed.append(all(parts))
        return merge(results, parts)

    monkeypatch.setattr(caching, "merge", spy)
    wished = [
        ImageParameters(
            f"{seed} circles",
            steps=STEPS + seed,
            seed=seed,
            guidance=3.0,
            width=SIDE,
            height=SIDE,
            acceleration=Acceleration(StepCache.parse(text + ",least=1")),
            options={"max_sequence_length": 48},
        )
        for seed, text in enumerate(["interval:2", "interval:3", "adaptive:0.5"])
    ]
    with TextToImage.load(case.pipe(), device="cpu") as model:
        alone = [model.submit(one).result(60) for one in wished]
        with held(model.engine):
            together = [model.submit(one) for one in wished]
        batched = [request.result(60) for request in together]
    assert any(mixed)
    for image, other in zip(alone, batched, strict=True):
        apart = np.asarray(image).astype(int) - np.asarray(other).astype(int)
        assert abs(apart).max() <= 2


def test_a_pipeline_that_looks_inside_its_denoiser_is_refused_by_name():
    """It reads attention in the middle of the UNet, where a shallow step does not come."""
    parts = CASES["sd"].pipe().components
    pipe = StableDiffusionSAGPipeline(**parts, requires_safety_checker=False)
    with pytest.raises(RequestError, match="StableDiffusionSAGPipeline depends on all that its"):
        accelerate(pipe, Acceleration(StepCache.parse("interval:2")))
