"""How pipelines guide is read off their code; another diffusers may say it in other words."""

from __future__ import annotations

import re
from pathlib import Path

import diffusers
import pytest

from mindsd.pipelines.guidance import find_guidance, looks_inside
from mindsd.stepcache.guidance import Guidance, conditional_rows
from tests.zoo.unheard_of import DreamPipeline

FORMS = {
    Guidance.NEGATIVE_FIRST: (
        "StableDiffusionPipeline StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline "
        "StableDiffusionControlNetPipeline StableDiffusionXLPipeline PixArtAlphaPipeline "
        "StableDiffusion3Pipeline SanaPipeline StableDiffusionXLControlNetInpaintPipeline "
        "StableDiffusion3ControlNetPipeline AuraFlowPipeline HunyuanDiTPipeline BriaFiboPipeline"
    ),
    Guidance.POSITIVE_FIRST: "ZImagePipeline",
    Guidance.SEPARATE: (
        "FluxPipeline QwenImagePipeline WanPipeline QwenImageEditPipeline FluxKontextPipeline "
        "FluxInpaintPipeline FluxImg2ImgPipeline FluxControlNetPipeline ChromaPipeline "
        "CogView4Pipeline CogView4ControlPipeline Krea2Pipeline Kandinsky5T2IPipeline"
    ),
    None: (
        "StableDiffusionPAGPipeline StableDiffusionInstructPix2PixPipeline "
        "StableDiffusionSAGPipeline StableDiffusionAttendAndExcitePipeline HiDreamImagePipeline "
        "AnimateDiffPipeline GlmImagePipeline FluxFillPipeline HunyuanImagePipeline"
    ),
}
KNOWN = [(name, form) for form, names in FORMS.items() for name in names.split()]


@pytest.mark.parametrize(("name", "form"), KNOWN, ids=[name for name, _ in KNOWN])
def test_what_is_known(name: str, form: Guidance | None):
    assert find_guidance(getattr(diffusers, name)) is form


def test_of_others_nothing_is_assumed():
    assert find_guidance(DreamPipeline) is None


def test_two_calls_are_the_positive_one_first_in_all_of_diffusers():
    """Read as text: the first call's result stands for both once guidance ends."""
    folder = Path(diffusers.__file__).parent / "pipelines"
    texts = [file.read_text() for file in sorted(folder.rglob("pipeline_*.py"))]
    said = [text for text in texts if 'cache_context("uncond"' in text]
    assert len(said) > 20
    for text in said:
        contexts = re.findall(r'cache_context\("(cond|uncond)"', text)
        assert contexts == ["cond", "uncond"] * (len(contexts) // 2)


def test_the_order_of_two_calls_is_read():
    class Backwards:
        def __call__(self, scale: float) -> float:
            negative = self.transformer(0)
            positive = self.transformer(1)
            result = negative + scale * (positive - negative)
            return result

        def transformer(self, value: float) -> float:
            return value

    assert Backwards()(2.0) == 2 and find_guidance(Backwards) is None


def test_pipelines_that_look_inside_their_denoiser():
    assert looks_inside(diffusers.StableDiffusionSAGPipeline)
    assert looks_inside(diffusers.StableDiffusionGLIGENPipeline)
    assert not looks_inside(diffusers.StableDiffusionPipeline)


def test_which_rows_are_conditional():
    assert conditional_rows(Guidance.NEGATIVE_FIRST, 6, 3) == range(3, 6)
    assert conditional_rows(Guidance.POSITIVE_FIRST, 6, 3) == range(3)
    assert conditional_rows(Guidance.NEGATIVE_FIRST, 3, 3) is None  # not guided
    assert conditional_rows(Guidance.NEGATIVE_FIRST, 2, 0) is None  # before the first step
    assert conditional_rows(Guidance.SEPARATE, 2, 1) is conditional_rows(None, 2, 1) is None
