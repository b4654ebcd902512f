"""The public face over the zoo: a pipeline in memory goes in, plain diffusers' images come out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mindsd import ImageToImage, TextToImage
from mindsd.config import PLAIN
from mindsd.engine import Engine
from mindsd.errors import EngineClosed, RequestError
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.cases import CASES, Case, picture
from tests.zoo.drawing import held, levels_apart, plain

OUR_NAMES = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "true_cfg_scale": "guidance",
}
FAMILIES = {name: case for name, case in CASES.items() if "image" not in case.own[0]}


def parameters(asked: dict[str, Any]) -> ImageParameters:
    """A pipeline's arguments as ours; those we have no name for are options."""
    named = {OUR_NAMES.get(name, name): value for name, value in asked.items()}
    ours = {field.name for field in fields(ImageParameters)}
    own = {name: value for name, value in named.items() if name not in ours}
    known = {name: value for name, value in named.items() if name in ours}
    return ImageParameters(**known, options=own)


@pytest.mark.parametrize("case", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_family(case: Case):
    references = [plain(case.pipe(), one) for one in case.asked()]
    with TextToImage.load(case.pipe(), device="cpu") as model:
        first = case.asked()[0]
        alone = model.submit(parameters(first)).result(60)
        with held(model.engine):
            requests = [model.submit(parameters(one)) for one in case.asked()]
        batched = [request.result(60) for request in requests]
    assert levels_apart(alone, references[0]) == 0
    assert max(map(levels_apart, batched, references)) <= 1
    assert torch.equal(plain(case.pipe(), first), references[0])


def test_options_reach_the_pipeline():
    """ControlNet's picture has no name of ours: it goes through as an option."""
    case = CASES["sd controlnet"]
    asked = case.asked()[0]
    with TextToImage.load(case.pipe(), device="cpu") as model:
        image = model.submit(parameters(asked)).result(60)
    assert levels_apart(image, plain(case.pipe(), asked)) == 0


def test_a_list_of_prompts_counts_seeds_up():
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        result = model(["a cat", "a dog"], images_per_prompt=2, steps=2, seed=5, width=32)
        again = model("a dog", steps=2, seed=8, width=32).images[0]
    assert [one.seed for one in result.parameters] == [5, 6, 7, 8]
    assert all(isinstance(image, Image.Image) and image.size == (32, 32) for image in result.images)
    # Batched and alone may differ by float rounding, which moves a pixel by one level at most.
    assert np.abs(np.asarray(result.images[3], int) - np.asarray(again, int)).max() <= 1


def test_without_a_seed_every_call_draws_another_image():
    with TextToImage.load(CASES["sd"].pipe(), device="cpu") as model:
        results = [model("a cat", steps=1) for _ in range(2)]
    assert results[0].parameters[0].seed != results[1].parameters[0].seed


@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"])
def test_another_scheduler(name: str):
    case = CASES["sd"]
    asked = case.asked()[1]
    with TextToImage.load(case.pipe(), device="cpu") as model:
        image = model.submit(parameters({**asked, "scheduler": name})).result(60)
        own = model.arguments.scheduler(name)
    pipe: Any = type(case.pipe())(**{**case.pipe().components, "scheduler": own})
    assert levels_apart(image, plain(pipe, asked)) == 0


def test_pipelines_of_one_model_share_its_engine_until_the_last_leaves():
    case, shown = CASES["sd"], picture(1)
    loaded = load_model(case.pipe(), "cpu")
    first, second = TextToImage(loaded), ImageToImage(loaded)
    assert first.engine is second.engine
    asked = case.asked()[:2]
    with held(first.engine):
        requests = [first.submit(parameters(one)) for one in asked]
        other = second.submit(ImageParameters("a cat", steps=3), image=shown)
    images = [request.result(60) for request in requests]
    other.result(60)
    forwards = first.engine.counts.forwards["denoise"]
    assert forwards < sum(one["num_inference_steps"] for one in asked) + 2
    first.close()
    first.close()
    again = second("a cat", shown, steps=3, seed=0).images[0]  # still batchable, still running
    assert second.engine.counts.forwards["denoise"] > forwards
    second.close()
    assert all("forward" not in vars(part) for part in (case.pipe().unet, case.pipe().vae.decoder))
    references = [plain(case.pipe(), one) for one in asked]
    assert max(map(levels_apart, images, references)) <= 1
    with pytest.raises(EngineClosed):
        second("a cat", shown, steps=3)
    with TextToImage(loaded) as third:  # a model can be used again
        assert levels_apart(third.submit(parameters(asked[0])).result(60), references[0]) == 0
    assert again.size == shown.size


def test_several_models_share_an_engine_of_their_own():
    case = CASES["sd"]
    with Engine() as engine:
        with TextToImage(load_model(case.pipe(), "cpu"), engine) as model:
            image = model.submit(parameters(case.asked()[0])).result(60)
        assert engine.submit(lambda request: "still running").result(10) == "still running"
    assert levels_apart(image, plain(case.pipe(), case.asked()[0])) == 0


def test_one_model_runs_on_one_engine():
    pipe = CASES["sd"].pipe()
    loaded = load_model(pipe)
    with Engine() as other, TextToImage(loaded):
        with pytest.raises(RequestError, match="already runs on another engine"):
            TextToImage(loaded, other)
        with pytest.raises(RequestError, match="unet, vae .* already run on an engine"):
            TextToImage.load(pipe)
    with TextToImage.load(pipe) as again:
        assert again("a cat", steps=1, width=32).images[0].size == (32, 32)


def test_a_closed_pipeline_draws_no_more():
    loaded = load_model(CASES["sd"].pipe())
    with TextToImage(loaded) as first:
        second = TextToImage(loaded)
        second.close()
        with pytest.raises(EngineClosed, match="this pipeline was closed; load it again"):
            second("a cat", steps=1)
        first("a cat", steps=1, width=32)


@pytest.mark.parametrize(
    ("prompts", "wishes", "said"),
    [
        (None, {}, "a prompt is text, got NoneType"),
        (5, {}, "a prompt is text, got int"),
        ("x", {"num_inference_steps": 3}, "unknown num_inference_steps: it takes negative_prompt"),
        ("x", {"options": [1]}, "options are a dictionary, got list"),
        ("x", {"speed": "warp"}, "unknown speed 'warp'"),
        ("x", {"acceleration": 2}, "an acceleration is an Acceleration, got 2"),
        ("x", {"speed": "fast", "acceleration": PLAIN}, "one of the two"),
    ],
)
def test_wrong_arguments_are_said_in_a_sentence(prompts: Any, wishes: dict[str, Any], said: str):
    with (
        TextToImage.load(CASES["sd"].pipe()) as model,
        pytest.raises(RequestError, match=said),
    ):
        model(prompts, **wishes)
