"""What is forecast of an output, and over what, goes with how the sampler moves."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)

from mindsd.stepcache.course import Course, flows
from mindsd.stepcache.schedule import Noise, Prediction

FLOW: Any = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
HERE, THERE = Noise(0.4, 0.6), Noise(0.7, 0.3)


@pytest.mark.parametrize(
    ("scheduler", "flow", "straight"),
    [
        (FlowMatchEulerDiscreteScheduler(shift=3.0), True, True),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), True, False),
        (FlowMatchLCMScheduler(), True, False),
        (FlowMatchHeunDiscreteScheduler(), True, False),  # it can churn
        (UniPCMultistepScheduler(**FLOW), True, True),
        (DPMSolverMultistepScheduler(**FLOW), True, True),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **FLOW), True, False),
        (DDIMScheduler(), False, False),
        (EulerAncestralDiscreteScheduler(), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_velocities_are_forecast_where_no_noise_comes_in(
    scheduler: Any, flow: bool, straight: bool
):
    assert (flows(scheduler), Course.of(scheduler).straight) == (flow, straight)


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize("prediction", Prediction)
def test_an_output_comes_back_from_its_value(prediction: Prediction, straight: bool):
    course = Course(prediction, straight)
    latents, output = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    value = course.value(HERE, latents, output)
    assert torch.allclose(course.output(HERE, latents, value), output)
    assert torch.equal(value, output) == (straight or prediction is Prediction.CLEAN)


def test_the_share_is_what_an_error_of_one_forecast_does():
    """A step of Euler on a flow, and of DDIM towards clean latents."""
    straight, curved = Course(Prediction.FLOW, straight=True), Course(Prediction.NOISE)
    assert straight.share(HERE, THERE) == pytest.approx(0.3)
    assert straight.share(HERE, None) == pytest.approx(0.6) and curved.share(HERE, None) == 1
    off, noise = 0.1, 2.0
    clean = (0.0 - THERE.sigma * noise) / THERE.alpha  # so that the next latents are zero
    latents = HERE.alpha * clean + HERE.sigma * noise
    wrong = clean + off
    moved = THERE.alpha * wrong + THERE.sigma * (latents - HERE.alpha * wrong) / HERE.sigma
    assert moved / THERE.alpha == pytest.approx(off * curved.share(HERE, THERE))
