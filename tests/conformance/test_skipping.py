"""Steps that are skipped altogether, on every family of the zoo, decided for each row.

A denoiser made for the purpose stands where the arithmetic has to be exact: its pictures move along
a line over the log-SNR, a flow's velocities along one over sigma, so forecasts must give what
computing gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor, nn

from mindsd import TextToImage
from mindsd.config import Acceleration
from mindsd.pipelines.accelerate import accelerate
from mindsd.pipelines.parameters import ImageParameters
from mindsd.stepcache.calls import follow_calls
from mindsd.stepcache.course import Course
from mindsd.stepcache.guidance import Guidance
from mindsd.stepcache.plan import StepCache
from mindsd.stepcache.schedule import Noise, noises, prediction_of
from mindsd.stepcache.trajectory import Trajectory
from mindsd.wrap import wrap
from tests.zoo.cases import CASES, SIDE, Case
from tests.zoo.drawing import distance, held, levels_apart, plain

FAMILIES = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
STEPS = 8
SIZE: dict[str, Any] = {"width": SIDE, "height": SIDE}


def asked(case: Case, which: int = 0) -> dict[str, Any]:
    return {**case.asked()[which], "num_inference_steps": STEPS}


def skipping(text: str, **more: Any) -> Acceleration:
    return Acceleration(StepCache.parse(text + ",least=1"), **more)


@FAMILIES
@pytest.mark.parametrize("text", ["skip:1", "tolerance:0"])
def test_a_closed_gate_changes_no_bit(case: Case, text: str):
    with accelerate(case.pipe(), skipping(text)):
        image = plain(case.pipe(), asked(case))
    assert torch.equal(image, plain(case.pipe(), asked(case)))


@FAMILIES
@pytest.mark.parametrize("text", ["skip:2", "plan:11-1--11"])
def test_skipped_steps_draw_something_near(case: Case, text: str):
    reference = plain(case.pipe(), asked(case))
    with accelerate(case.pipe(), skipping(text)):
        image = plain(case.pipe(), asked(case))
    assert image.isfinite().all() and not torch.equal(image, reference)
    assert distance(image, reference) < 0.9
    assert torch.equal(plain(case.pipe(), asked(case)), reference)


class Painter(nn.Module):
    """Predicts what moves along a line of its sampler's course, one line for each row.

    Rows with a slope above 0.15 move along a parabola.
    """

    def __init__(self, scheduler: Any):
        super().__init__()
        self.scheduler, self.rows, self.noise = scheduler, [], Noise(0.5, 0.5)

    def forward(self, sample: Tensor, timestep: Tensor, slope: Tensor) -> tuple[Tensor]:
        self.rows.append(len(sample))
        course = Course.of(self.scheduler)
        at = course.at(self.noise)
        value = 0.3 + slope * at + (slope > 0.15) * at**2 + torch.zeros_like(sample)
        return (course.output(self.noise, sample, value),)


SAMPLERS: list[Any] = [
    DDIMScheduler(prediction_type="v_prediction"),
    DDIMScheduler(),
    EulerDiscreteScheduler(use_karras_sigmas=True),
    EulerAncestralDiscreteScheduler(),
    DPMSolverMultistepScheduler(),
    FlowMatchEulerDiscreteScheduler(shift=3.0),
    FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True),
]


def painted(
    scheduler: Any, how: Acceleration, painter: Painter | None = None, **more: Any
) -> tuple[Tensor, list[int]]:
    """What a pipeline's loop over 14 steps draws of two pictures, and the rows of each forward."""
    painter = painter or Painter(scheduler)
    trajectory = Trajectory(scheduler, how, **more)
    follower = follow_calls(painter, lambda: trajectory)
    generator = torch.Generator().manual_seed(1)
    scheduler.set_timesteps(14)
    start = float(getattr(scheduler, "init_noise_sigma", 1.0))
    latents = torch.randn(2, 1, 2, 2, generator=generator) * start
    slopes = torch.tensor([0.1, -0.2, 0.05, 0.15]).reshape(4, 1, 1, 1)
    step = scheduler.step
    draws = "Ancestral" in type(scheduler).__name__ or scheduler.config.get("stochastic_sampling")
    noisy = {"generator": generator} if draws else {}
    along = noises(scheduler, scheduler.timesteps.tolist())
    for noise, time in zip(along, scheduler.timesteps, strict=True):
        known = getattr(scheduler, "scale_model_input", None)
        given = torch.cat([latents] * 2)
        painter.noise = noise
        output = painter(given if known is None else known(given, time), time, slopes)[0]
        negative, positive = output.chunk(2)
        guided = negative + 3 * (positive - negative)
        latents = step(guided, time, latents, **noisy, return_dict=False)[0]
    follower.remove()
    trajectory.remove()
    return latents, painter.rows


@pytest.mark.parametrize("scheduler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_a_straight_way_is_forecast_exactly_whatever_the_sampler(scheduler: Any):
    """The spacing is irregular, and the ancestral one adds noise at every step. No forecast reaches
    beyond three gaps between computed steps, where a slope is not trusted."""
    whole, rows = painted(scheduler, Acceleration())
    assert rows == [4] * 14
    for text in ("plan:11--1-1---1-11", "tolerance:0.001,most=2"):
        image, rows = painted(scheduler, skipping(text))
        assert torch.allclose(image, whole, atol=2e-3) and sum(rows) < 0.8 * 4 * 14


def test_rows_that_differ_decide_apart():
    """A tolerance lets a straight row skip while a crooked one is computed, in one call."""
    scheduler: Any = DDIMScheduler(clip_sample=False)
    painter = Painter(scheduler)
    trajectory = Trajectory(scheduler, skipping("tolerance:0.001"))
    follower = follow_calls(painter, lambda: trajectory)
    scheduler.set_timesteps(14)
    latents, slopes = torch.ones(2, 1, 2, 2), torch.tensor([0.1, 0.2]).reshape(2, 1, 1, 1)
    along = noises(scheduler, scheduler.timesteps.tolist())
    for noise, time in zip(along, scheduler.timesteps, strict=True):
        painter.noise = noise
        output = painter(latents, time, slopes)[0]
        latents = scheduler.step(output, time, latents, return_dict=False)[0]
    follower.remove()
    assert painter.rows.count(1) > 4 and painter.rows.count(2) < 9


class Advocate(Painter):
    """Predicts noise that differs by the same between its branches, at every step."""

    def forward(self, sample: Tensor, timestep: Tensor, slope: Tensor) -> tuple[Tensor]:
        (output,) = super().forward(sample, timestep, torch.zeros_like(slope))
        return (output + slope / self.noise.noise_change(prediction_of(self.scheduler)),)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_guidance_that_ends_holds_the_last_difference_of_noise(prediction: Any):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction)
    how: dict[str, Any] = {"guidance": Guidance.NEGATIVE_FIRST, "expected_images": 2}
    whole, _ = painted(scheduler, Acceleration(), painter=Advocate(scheduler), **how)
    until = Acceleration(guidance_until=0.5)
    image, rows = painted(scheduler, until, painter=Advocate(scheduler), **how)
    assert rows == [4] * 7 + [2] * 7 and torch.allclose(image, whole, atol=1e-3)


@pytest.mark.parametrize("scheduler", [HeunDiscreteScheduler, PNDMScheduler])
def test_a_tolerance_goes_with_solvers_of_several_calls(scheduler: Any):
    """The last corrector's step takes all of its forecast; a time may come twice."""
    pipe: Any = CASES["sd"].build()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    asked_for = {**CASES["sd"].asked()[0], "num_inference_steps": 20}
    reference = plain(pipe, asked_for)
    with accelerate(pipe, skipping("tolerance:0.002")):
        image = plain(pipe, asked_for)
    assert distance(image, reference) < 0.1


def test_rows_that_change_in_number_start_anew():
    """What was the unconditional row's stands for no other when guidance is switched off."""
    case = CASES["sd"]

    def end(pipe: Any, step: int, time: Any, kept: dict[str, Any]) -> dict[str, Any]:
        if step == 3:
            pipe._guidance_scale = 0.0
            kept["prompt_embeds"] = kept["prompt_embeds"].chunk(2)[-1]
        return kept

    inputs = {"callback_on_step_end": end, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    computed, pipe = [], case.pipe()

    def count(original: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        computed.append(len(sample))
        return original(sample, *args, **kwargs)

    with wrap(pipe.unet, "forward", count), accelerate(pipe, skipping("plan:11-1----")):  # pyright: ignore
        plain(pipe, {**asked(case), **inputs, "guidance_scale": 5.0})
    assert computed == [2, 2, 2, 1, 1]  # the fifth step was to be skipped, but nothing was known


def test_a_second_denoiser_learns_its_own_difference():
    """Guidance ended before the switch: one step of the second has both branches, to know it."""
    scheduler: Any = DDIMScheduler(clip_sample=False)
    trajectory = Trajectory(
        scheduler, Acceleration(guidance_until=0.2), Guidance.NEGATIVE_FIRST, expected_images=2
    )
    first, second = Advocate(scheduler), Advocate(scheduler)
    followers = [follow_calls(own, lambda: trajectory) for own in (first, second)]
    scheduler.set_timesteps(10)
    latents, slopes = torch.ones(2, 1, 2, 2), torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1, 1)
    along = noises(scheduler, scheduler.timesteps.tolist())
    for step, (noise, time) in enumerate(zip(along, scheduler.timesteps, strict=True)):
        painter = first if step < 5 else second
        painter.noise = noise
        negative, positive = painter(torch.cat([latents] * 2), time, slopes)[0].chunk(2)
        assert torch.allclose(
            positive - negative, (slopes[2:] - slopes[:2]).expand_as(latents), atol=1e-5
        )
        latents = scheduler.step(positive, time, latents, return_dict=False)[0]
    for follower in followers:
        follower.remove()
    assert first.rows == [4, 4, 2, 2, 2] and second.rows == [4, 2, 2, 2, 2]


@pytest.mark.parametrize("text", ["skip:2", "tolerance:0.05"])
def test_skipped_steps_never_reach_the_engine(text: str):
    pipe, how = CASES["sd"].pipe(), skipping(text)
    wished = [
        ImageParameters(f"{seed} cats", steps=14, seed=seed, acceleration=how, **SIZE)
        for seed in range(3)
    ]
    with TextToImage.load(pipe) as model:
        alone = [model.submit(one).result(60) for one in wished]
        before = dict(model.engine.counts.rows)
        with held(model.engine):
            together = [model.submit(one) for one in wished]
        batched = [request.result(60) for request in together]
        rows = model.engine.counts.rows["denoise"] - before["denoise"]
        bare = model.submit(replace(wished[0], acceleration=Acceleration())).result(60)
    assert rows < 3 * 2 * 14
    for image, other in zip(alone, batched, strict=True):
        reference = torch.tensor(list(image.getdata())).reshape(SIDE, SIDE, 3) / 255
        assert levels_apart(other, reference.permute(2, 0, 1)) <= 2
    assert bare.tobytes() != alone[0].tobytes()
