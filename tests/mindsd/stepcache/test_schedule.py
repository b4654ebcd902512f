"""What a scheduler's times mean, held against what the schedulers themselves do."""

import math
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from mindsd.stepcache.schedule import FAR, Noise, Prediction, first_index, noises, prediction_of

ZERO_SNR: Any = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
SCHEDULERS: list[Any] = [
    DDIMScheduler(prediction_type="v_prediction", **ZERO_SNR),
    DDIMScheduler(),
    EulerDiscreteScheduler(prediction_type="v_prediction"),
    EulerDiscreteScheduler(use_karras_sigmas=True),
    DPMSolverMultistepScheduler(),
    DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    FlowMatchEulerDiscreteScheduler(shift=3.0),
]


def times_of(scheduler: Any, steps: int = 10) -> list[float]:
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist()


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda s: type(s).__name__)
def test_a_perfect_prediction_is_read_as_the_picture_that_it_was_made_of(scheduler: Any):
    """The scheduler itself says which picture: it is where its own steps end up."""
    times = times_of(scheduler)
    along, prediction = noises(scheduler, times), prediction_of(scheduler)
    picture, generator = torch.full((1, 2, 2, 2), 0.7), torch.Generator().manual_seed(0)
    latents = torch.randn(1, 2, 2, 2, generator=generator) * scheduler_start(scheduler)
    for time, noise in zip(scheduler.timesteps, along, strict=True):
        given = scale(scheduler, latents, time)
        output = noise.output(prediction, given, picture)
        assert torch.allclose(noise.clean(prediction, given, output), picture, atol=1e-3)
        latents = scheduler.step(output, time, latents, return_dict=False)[0]
    assert torch.allclose(latents, picture, atol=2e-2)


def scheduler_start(scheduler: Any) -> float:
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def scale(scheduler: Any, latents: torch.Tensor, time: Any) -> torch.Tensor:
    known = getattr(scheduler, "scale_model_input", None)
    return latents if known is None else known(latents, time)


@pytest.mark.parametrize("prediction", Prediction)
def test_output_undoes_clean_even_where_there_is_nothing_but_noise(prediction: Prediction):
    latents, output = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for noise in (Noise(1e-4, 1.0), Noise(0.6, 0.8), Noise(1.0, 1e-4)):
        clean = noise.clean(prediction, latents, output)
        assert torch.allclose(noise.output(prediction, latents, clean), output, atol=1e-6)


@pytest.mark.parametrize("prediction", Prediction)
def test_how_much_the_noise_changes_with_an_output(prediction: Prediction):
    noise, latents = Noise(0.6, 0.8), torch.ones(1, dtype=torch.float64)

    def predicted_noise(output: float) -> float:
        clean = noise.clean(prediction, latents, torch.tensor([output], dtype=torch.float64))
        return float((latents - noise.alpha * clean) / noise.sigma)

    change = predicted_noise(1.5) - predicted_noise(0.5)
    assert abs(change) == pytest.approx(abs(noise.noise_change(prediction)))


def test_the_log_snr_is_bounded():
    assert Noise(1e-4, 1.0).log_snr == -FAR and Noise(1.0, 1e-4).log_snr == FAR
    assert Noise(0.8, 0.6).log_snr == pytest.approx(math.log(0.8 / 0.6))


def test_where_image_to_image_starts():
    scheduler = DDIMScheduler()
    times = times_of(scheduler)
    assert first_index(scheduler, times, torch.tensor(times[4])) == 4
    euler = EulerDiscreteScheduler()
    times = times_of(euler)
    euler.set_begin_index(3)
    assert first_index(euler, times, torch.tensor(times[0])) == 3
    assert first_index(HeunDiscreteScheduler(), [999.0, 500.0], 0.999) == 0  # time as a share


def test_a_scheduler_with_a_rule_of_its_own_has_outputs_forecast_as_they_are():
    scheduler: Any = EDMEulerScheduler()
    along = noises(scheduler, times_of(scheduler))
    assert prediction_of(scheduler) is Prediction.CLEAN
    ratios = [noise.sigma / noise.alpha for noise in along]
    sigmas = (scheduler.sigmas[:10] / scheduler.config.sigma_data).tolist()
    assert ratios == pytest.approx(sigmas, rel=1e-4)


def test_second_stages_stand_between():
    scheduler: Any = KDPM2DiscreteScheduler()
    along = noises(scheduler, times_of(scheduler))
    snr = [noise.log_snr for noise in along]
    assert snr == sorted(snr) and len(set(snr)) == len(snr)


def test_of_a_time_that_comes_twice_the_second_begins_a_step():
    scheduler: Any = PNDMScheduler(skip_prk_steps=True)
    times = times_of(scheduler)
    assert times[1] == times[2] and first_index(scheduler, times, torch.tensor(times[1])) == 2
    assert first_index(scheduler, times, torch.tensor(times[0])) == 0
