"""Through the engine every family draws what plain diffusers draws (acceleration off)."""

from __future__ import annotations

import pytest
import torch

from tests.zoo.cases import CASES, Case
from tests.zoo.drawing import distance, plain, together

TOLERANCE = 1e-5  # of the largest value, fp32, when batched with others
FAMILIES = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@FAMILIES
def test_alone_it_is_the_same_bits(case: Case):
    for asked in case.asked():
        (image,), _ = together(case.pipe(), [asked])
        assert torch.equal(image, plain(case.pipe(), asked))


@FAMILIES
def test_batched_it_is_the_same_image_in_fewer_forwards(case: Case):
    references = [plain(case.pipe(), asked) for asked in case.asked()]
    alone = [together(case.pipe(), [asked])[1] for asked in case.asked()]
    images, forwards = together(case.pipe(), case.asked())
    for image, reference in zip(images, references, strict=True):
        assert distance(image, reference) < TOLERANCE
    # All that started together went together: as many forwards as the longest request has alone.
    assert forwards["denoise"] == max(one["denoise"] for one in alone)
    assert forwards["text"] == max(one["text"] for one in alone)


@FAMILIES
def test_the_zoo_would_show_a_mistake(case: Case):
    """Prompts matter: a row that went to the wrong request, or no text at all, would be seen."""
    first, second = case.asked()[:2]
    image = plain(case.pipe(), first)
    assert distance(plain(case.pipe(), {**first, "prompt": second["prompt"]}), image) > 1e-3
    assert distance(plain(case.pipe(), {**first, "seed": second["seed"]}), image) > 1e-2
    assert 0.02 < image.std() and ((image > 0) & (image < 1)).float().mean() > 0.9


@FAMILIES
def test_after_the_engine_the_pipeline_is_as_before(case: Case):
    asked = case.asked()[0]
    before = plain(case.pipe(), asked)
    together(case.pipe(), case.asked())
    assert torch.equal(plain(case.pipe(), asked), before)
    modules = [part for part in case.pipe().components.values() if hasattr(part, "forward")]
    assert all("forward" not in vars(module) for module in modules)
