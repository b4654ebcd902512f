"""How pipelines guide is read off their code; another diffusers may say it in other words."""

from __future__ import annotations

import diffusers
import pytest

from mindsd.pipelines.guidance import find_guidance
from mindsd.stepcache.guidance import Guidance, conditional_rows
from tests.zoo.unheard_of import DreamPipeline

FORMS = {
    Guidance.NEGATIVE_FIRST: (
        "StableDiffusionPipeline StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline "
        "StableDiffusionControlNetPipeline StableDiffusionXLPipeline PixArtAlphaPipeline "
        "StableDiffusion3Pipeline SanaPipeline StableDiffusionXLControlNetInpaintPipeline"
    ),
    Guidance.POSITIVE_FIRST: "ZImagePipeline",
    Guidance.SEPARATE: "FluxPipeline QwenImagePipeline WanPipeline",
    None: "StableDiffusionPAGPipeline StableDiffusionInstructPix2PixPipeline",
}
KNOWN = [(name, form) for form, names in FORMS.items() for name in names.split()]


@pytest.mark.parametrize(("name", "form"), KNOWN, ids=[name for name, _ in KNOWN])
def test_what_is_known(name: str, form: Guidance | None):
    assert find_guidance(getattr(diffusers, name)) is form


def test_of_others_nothing_is_assumed():
    assert find_guidance(DreamPipeline) is None


def test_which_rows_are_conditional():
    assert conditional_rows(Guidance.NEGATIVE_FIRST, 6, 3) == range(3, 6)
    assert conditional_rows(Guidance.POSITIVE_FIRST, 6, 3) == range(3)
    assert conditional_rows(Guidance.NEGATIVE_FIRST, 3, 3) is None  # not guided
    assert conditional_rows(Guidance.NEGATIVE_FIRST, 2, 0) is None  # before the first step
    assert conditional_rows(Guidance.SEPARATE, 2, 1) is conditional_rows(None, 2, 1) is None
