"""Editing and control pipelines under a step cache; diffusers' own refuses most of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.config import Acceleration
from mindsd.pipelines.accelerate import accelerate
from mindsd.stepcache.plan import StepCache
from tests.zoo.cases import CASES, VARIANTS, Case
from tests.zoo.drawing import distance, plain

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
