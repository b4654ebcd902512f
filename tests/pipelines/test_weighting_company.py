"""Weighted requests beside others, and with all else that a request may ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    StableDiffusionPAGPipeline,
)

from mindsd import ImageToImage, Inpaint, TextToImage
from mindsd.config import Acceleration, speed_named
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from tests.pipelines.test_text_to_image import parameters
from tests.zoo.cases import CASES, half_mask, picture
from tests.zoo.drawing import distance, held, plain
from tests.zoo.image_lora import save_lora
from tests.zoo.prompts import FAMILIES, LONG, SQUARE, together


@pytest.mark.parametrize("family", FAMILIES)
def test_in_mixed_company_it_is_the_same_image(family: str):
    case = CASES[family]
    usual = [parameters(asked) for asked in case.asked()]
    texts = ("a (red:1.4) circle", LONG, "[a] red circle", "2 (blue:1.2) stars")
    asked = [*usual, *(replace(usual[0], prompt=text, weighted=True) for text in texts)]
    alone = [together(case.pipe(), [one]) for one in asked]
    images, forwards = together(case.pipe(), asked)
    for image, (references, _) in zip(images, alone, strict=True):
        assert distance(image, references[0]) < 1e-5
    assert distance(images[0], plain(case.pipe(), case.asked()[0])) < 1e-5
    assert forwards < sum(count for _, count in alone)


def test_windows_share_forwards():
    asked = [
        ImageParameters(f"a ({word}:1.5) circle", steps=1, weighted=True, seed=seed, **SQUARE)
        for seed, word in enumerate(("red", "ink", "tan"))
    ]
    pipe = CASES["sd"].pipe()
    assert together(pipe, asked)[1] == together(pipe, asked[:1])[1] == 2  # prompt; the empty one


def test_pictures_drawn_anew():
    sd = load_model(CASES["sd"].pipe(), "cpu")
    wishes: dict[str, Any] = {"steps": 4, "seed": 3, "strength": 0.8}
    with ImageToImage(sd) as redraw, Inpaint(sd) as fill:
        for call in (
            lambda text, weighted: redraw(text, picture(1), **wishes, weighted=weighted),
            lambda text, weighted: fill(text, picture(1), half_mask(), **wishes, weighted=weighted),
        ):
            usual, same = (call("a red circle", on).images[0].tobytes() for on in (False, True))
            assert usual == same
            assert call("a (red:1.8) circle", True).images[0].tobytes() != usual
            assert call(LONG, True).images[0].tobytes() != call(LONG, False).images[0].tobytes()


@pytest.mark.parametrize("less", [speed_named("fast"), Acceleration(guidance_until=0.5)])
def test_less_work(less: Acceleration):
    asked = ImageParameters("a red circle", steps=12, acceleration=less, **SQUARE)
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        usual, same, other, long = (
            model.submit(one).result(60).tobytes()
            for one in (
                asked,
                replace(asked, weighted=True),
                replace(asked, weighted=True, prompt="a (red:1.8) circle"),
                replace(asked, weighted=True, prompt=LONG),
            )
        )
    assert usual == same and len({usual, other, long}) == 3


def test_pipelines_that_run_alone():
    parts = CASES["sd"].build().components
    pipe = StableDiffusionPAGPipeline(
        **parts, requires_safety_checker=False, pag_applied_layers=["mid"]
    )
    asked = ImageParameters("a red circle", steps=2, **SQUARE)
    with TextToImage.load(pipe, device="cpu") as model:
        usual, same, other = (
            model.submit(one).result(60).tobytes()
            for one in (
                asked,
                replace(asked, weighted=True),
                replace(asked, weighted=True, prompt=LONG),
            )
        )
    assert usual == same != other


def test_it_leaves_nothing_behind():
    case = CASES["sdxl"]
    encoders: list[Any] = [case.pipe().text_encoder, case.pipe().text_encoder_2]
    asked = case.asked()[0]
    before, state = plain(case.pipe(), asked), [set(vars(own)) for own in encoders]
    with TextToImage.load(case.pipe(), device="cpu") as model:
        opened = [set(vars(own)) for own in encoders]
        wish = replace(parameters(asked), prompt="a (red:0.4) (circle:1.4)", weighted=True)
        model.submit(wish).result(60)
        assert [set(vars(own)) for own in encoders] == opened
    assert [set(vars(own)) for own in encoders] == state
    assert torch.equal(plain(case.pipe(), asked), before)


def test_adapters_of_the_text_encoder_are_seen(tmp_path: Path):
    pipe = CASES["sd"].build()
    file = save_lora(pipe, tmp_path, 1, ("text_encoder",))
    asked = ImageParameters("a red circle", steps=2, **SQUARE)
    with TextToImage.load(pipe, device="cpu") as model:
        model.add_lora("ink", file)
        plainly, weighted = (replace(asked, loras={"ink": 1.0}, weighted=w) for w in (False, True))
        with held(model.engine):
            requests = [model.submit(one) for one in (asked, weighted, plainly)]
        without, seen, usual = (request.result(60).tobytes() for request in requests)
    assert seen == usual != without
