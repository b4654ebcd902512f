"""A request's own copy: its steps, its random numbers, its check of what was drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from mindsd import TextToImage
from mindsd.errors import BrokenImage
from mindsd.pipelines.own import own_copy
from mindsd.pipelines.parameters import ImageParameters
from tests.zoo.cases import CASES, SIDE
from tests.zoo.stable_diffusion import stable_diffusion
from tests.zoo.unheard_of import DreamPipeline

SIZE: dict[str, Any] = {"width": SIDE, "height": SIDE}


def ignore(done: int, total: int) -> None:
    """No progress is shown."""


def test_a_scheduler_that_is_passed_no_generator_draws_from_the_requests():
    """As some pipelines forget to; diffusers would take the process's random numbers."""
    drawn = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        scheduler = DDPMScheduler()
        parts = {"scheduler": scheduler}
        mine: Any = own_copy(stable_diffusion(), ignore, generator=generator, parts=parts)
        scheduler.set_timesteps(4)
        sample = torch.ones(1, 4, 2, 2)
        drawn.append(mine.scheduler.step(sample, scheduler.timesteps[0], sample).prev_sample)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_generator_that_is_passed_is_the_one_used():
    sample, given = torch.ones(1, 4, 2, 2), torch.Generator().manual_seed(5)
    other = torch.Generator().manual_seed(6)
    plain: Any = DDPMScheduler()
    plain.set_timesteps(4)
    expected = plain.step(sample, plain.timesteps[0], sample, generator=given).prev_sample
    own: Any = DDPMScheduler()
    own.set_timesteps(4)
    mine: Any = own_copy(stable_diffusion(), ignore, generator=other, parts={"scheduler": own})
    given.manual_seed(5)
    step = mine.scheduler.step(sample, own.timesteps[0], sample, generator=given)
    assert torch.equal(step.prev_sample, expected)


def test_an_image_of_no_numbers_is_refused_and_not_drawn_black():
    pipe: Any = CASES["sd"].build()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias[0] = torch.nan
    with (
        TextToImage.load(pipe, device="cpu") as model,
        pytest.raises(BrokenImage, match="1024 of 3072 values .* are not numbers"),
    ):
        model("a cat", steps=1, **SIZE)


class BareDreamPipeline(DreamPipeline):
    """Takes no generator, no size and no `return_dict`, and returns a bare list."""

    def __call__(self, prompt: str, num_inference_steps: int = 4) -> list[object]:  # pyright: ignore
        return [super().__call__(prompt, num_inference_steps=num_inference_steps)[0]]


def test_a_pipeline_that_takes_almost_nothing_is_asked_almost_nothing():
    pipe = BareDreamPipeline(**CASES["unheard of"].pipe().components)
    pipe.default_sample_size = SIDE // 2
    with TextToImage.load(pipe, device="cpu") as model:
        request = model.submit(ImageParameters("a cat", steps=2))
        image, events = request.result(60), list(request.events())
    assert image.size == (SIDE, SIDE)
    texts = [getattr(event, "text", "") for event in events]
    assert any("takes no generator" in text for text in texts)
