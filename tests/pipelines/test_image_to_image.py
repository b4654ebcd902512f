"""Image-to-image and inpainting through the public face, from a text-to-image pipeline."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

from mindsd import ImageToImage, Inpaint
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.cases import CASES, PICTURES, SIDE, half_mask, picture
from tests.zoo.drawing import held, levels_apart, plain

FAMILIES = ["sd", "sdxl", "sd3", "flux", "qwen-image", "z-image"]
SHORT = {"sd3": 16, "flux": 16, "z-image": 48}  # padding enough for the zoo's prompts


def options(family: str) -> dict[str, Any]:
    return {"max_sequence_length": SHORT[family]} if family in SHORT else {}


@pytest.mark.parametrize("family", FAMILIES)
def test_image_to_image(family: str):
    source = CASES[family].pipe()
    wished = [
        ImageParameters("a cat", steps=5, seed=seed, strength=0.8, options=options(family))
        for seed in (1, 2)
    ]
    with ImageToImage.load(source, device="cpu") as model:
        with held(model.engine):
            requests = [
                model.submit(one, image=own["image"])
                for one, own in zip(wished, PICTURES, strict=False)
            ]
        images = [request.result(60) for request in requests]
        alone = model.submit(wished[0], image=PICTURES[0]["image"]).result(60)
        accepted = model.arguments.accepted
    pipe = AutoPipelineForImage2Image.from_pipe(source)
    size = {"width": SIDE, "height": SIDE} if "width" in accepted else {}
    references = [
        plain(
            pipe,
            {
                "prompt": one.prompt,
                "seed": one.seed,
                "image": own["image"],
                "num_inference_steps": 5,
                "strength": 0.8,
                **size,
                **one.options,
            },
        )
        for one, own in zip(wished, PICTURES, strict=False)
    ]
    assert levels_apart(alone, references[0]) == 0
    assert max(map(levels_apart, images, references)) <= 1


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_inpaint(family: str):
    source, shown = CASES[family].pipe(), picture(1)
    with Inpaint.load(source, device="cpu") as model:
        image = model("a cat", shown, half_mask(), steps=3, seed=4).images[0]
    pipe = AutoPipelineForInpainting.from_pipe(source)
    asked = {
        "prompt": "a cat",
        "seed": 4,
        "num_inference_steps": 3,
        "image": shown,
        "mask_image": half_mask(),
        "width": SIDE,
        "height": SIDE,
    }
    assert levels_apart(image, plain(pipe, asked)) == 0


def test_a_family_without_that_form_is_refused():
    with pytest.raises(ModelError, match="DreamPipeline has no image-to-image form"):
        ImageToImage.load(CASES["unheard of"].pipe(), device="cpu")
    with pytest.raises(ModelError, match="PixArtAlphaPipeline has no inpainting form"):
        Inpaint.load(CASES["pixart"].pipe(), device="cpu")


def test_half_precision_stays_what_it_is():
    """The related pipeline shares the weights; making it must not convert them."""
    pipe = CASES["sd"].build().to(torch.bfloat16)
    with ImageToImage.load(pipe, device="cpu") as model:
        assert model.pipe.unet.dtype == pipe.unet.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "0 pictures for 3 prompts"),
        ([picture(1), picture(2)], "2 pictures for 3 prompts"),
        ("missing.png", "there is no picture at missing.png"),
    ],
)
def test_wrong_pictures(pictures: Any, said: str):
    with (
        ImageToImage.load(CASES["sd"].pipe(), device="cpu") as model,
        pytest.raises(RequestError, match=said),
    ):
        model(["a", "b", "c"], pictures, steps=2)


def test_a_picture_of_an_odd_size_is_refused_and_another_size_resizes_it():
    odd = picture(1).resize((30, 45))
    with ImageToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        with pytest.raises(RequestError, match="30x45"):
            model("a cat", odd, steps=2)
        image = model("a cat", odd, steps=2, width=40, height=48).images[0]
        assert model.complete(ImageParameters("a cat", width=64), odd).height == 96  # its shape
        assert model.complete(ImageParameters("a cat", height=96), odd).width == 64
    assert image.size == (40, 48)


def test_a_strength_of_less_than_one_step_is_refused():
    with ImageToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        with pytest.raises(RequestError, match="strength 0.1 of 5 steps is less than one step"):
            model("a cat", picture(1), steps=5, strength=0.1)
        model("a cat", picture(1), steps=5, strength=0.2)  # as the message says
