"""Which pipelines can have weights: those of odd parts, and those that are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)

from mindsd import TextToImage
from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.weighting import suggests_weighting
from tests.pipelines.test_text_to_image import parameters
from tests.zoo.cases import CASES
from tests.zoo.drawing import levels_apart, plain
from tests.zoo.prompts import SQUARE, encoded
from tests.zoo.stable_diffusion import UNET
from tests.zoo.weights import grow


def test_distilled_consistency_models():
    parts = {**CASES["sd"].build().components, "scheduler": LCMScheduler()}
    parts["unet"] = grow(UNet2DConditionModel, **UNET, time_cond_proj_dim=8)
    pipe = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    asked = {"prompt": "a red circle", "num_inference_steps": 2, "seed": 0, **SQUARE}
    with TextToImage.load(pipe, device="cpu") as model:
        image = model.submit(replace(parameters(asked), weighted=True)).result(60)
    assert levels_apart(image, plain(pipe, asked)) == 0


def test_stable_diffusion_3_without_its_t5():
    parts = {**CASES["sd3"].build().components, "text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline(**parts)
    asked = CASES["sd3"].asked()[0]
    with TextToImage.load(pipe, device="cpu") as model:
        image = model.submit(replace(parameters(asked), weighted=True)).result(60)
    assert levels_apart(image, plain(pipe, asked)) == 0


def test_a_refiner_has_only_the_second_encoder():
    parts = {**CASES["sdxl"].build().components, "text_encoder": None, "tokenizer": None}
    pipe: Any = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    with torch.no_grad():
        reference = pipe.encode_prompt("a cat", do_classifier_free_guidance=False)
    found = encoded(pipe, "a cat", guidance=1.0)
    assert torch.equal(found["prompt_embeds"], reference[0])
    assert torch.equal(found["pooled_prompt_embeds"], reference[2])


@pytest.mark.parametrize("family", ["pixart", "qwen-image", "z-image", "unheard of"])
def test_other_pipelines_are_refused_by_name(family: str):
    pipe = CASES[family].pipe()
    with TextToImage.load(pipe, device="cpu") as model:
        wish = ImageParameters("a cat", **SQUARE, weighted=True)
        assert not suggests_weighting(model.arguments, ImageParameters("a (cat)"))
        with pytest.raises(RequestError, match=f"{type(pipe).__name__} reads prompts in a way"):
            model.submit(wish)
