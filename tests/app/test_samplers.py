"""Automatic1111's names of samplers and schedule types, both ways."""

import math

import pytest

from mindsd.app.samplers import SAMPLERS, SCHEDULES, sampler_of, scheduler_of, wished_scheduler
from mindsd.errors import RequestError
from mindsd.pipelines.arguments import Arguments
from tests.zoo.stable_diffusion import stable_diffusion

RHO = 7  # of Karras' schedule


@pytest.fixture(scope="module")
def arguments():
    return Arguments(stable_diffusion(), "thin-sd")


@pytest.mark.parametrize(
    ("said", "scheduler"),
    [
        (("Euler a",), "EulerAncestralDiscreteScheduler"),
        (("euler A",), "EulerAncestralDiscreteScheduler"),
        (("DPM++ 2M Karras",), "DPMSolverMultistepScheduler(use_karras_sigmas=True)"),
        (("DPM++ 2M (Karras)",), "DPMSolverMultistepScheduler(use_karras_sigmas=True)"),
        (("DPM++ 2M", "Karras"), "DPMSolverMultistepScheduler(use_karras_sigmas=True)"),
        (("DPM++ 2M Karras", "Karras"), "DPMSolverMultistepScheduler(use_karras_sigmas=True)"),
        (("DPM++ 2M", "Automatic"), "DPMSolverMultistepScheduler(use_karras_sigmas=True)"),
        (("Euler", "Automatic"), "EulerDiscreteScheduler"),
        (
            ("DPM++ 2M SDE", "Exponential"),
            "DPMSolverMultistepScheduler(algorithm_type=sde-dpmsolver++, "
            "use_exponential_sigmas=True)",
        ),
        (
            ("Euler Karras",),
            "EulerDiscreteScheduler(use_karras_sigmas=True, timestep_spacing=linspace)",
        ),
        (("Euler SGM Uniform",), "EulerDiscreteScheduler(timestep_spacing=trailing)"),
        (("Heun", "Simple"), "HeunDiscreteScheduler(timestep_spacing=trailing)"),
        (("PLMS",), "PNDMScheduler(skip_prk_steps=True)"),
        (("Restart", "Karras"), "Restart Karras"),
        (("Euler", "Turbo"), "Euler Turbo"),
        (("EulerDiscreteScheduler",), "EulerDiscreteScheduler"),
        (
            ("EulerDiscreteScheduler(use_karras_sigmas=True)",),
            "EulerDiscreteScheduler(use_karras_sigmas=True)",
        ),
    ],
)
def test_names_stand_for_schedulers(said, scheduler):
    assert scheduler_of(*said) == scheduler


def test_every_name_comes_back_as_one_that_means_the_same():
    for sampler in SAMPLERS:
        for schedule in ("", *SCHEDULES):
            scheduler = scheduler_of(sampler, schedule)
            assert scheduler_of(*sampler_of(scheduler)) == scheduler
            assert sampler_of(scheduler)[0] == sampler


def test_a_scheduler_without_a_name_is_its_own():
    assert sampler_of("EDMEulerScheduler") == ("EDMEulerScheduler", "")


def sigmas_of(arguments, name, steps):
    scheduler = arguments.scheduler(scheduler_of(name))
    scheduler.set_timesteps(steps)
    return scheduler, list(dict.fromkeys(scheduler.sigmas.tolist()))


def ends(scheduler):
    """The least and the most noise that the model was trained on, as sigma."""
    first, last = scheduler.alphas_cumprod[[0, -1]].tolist()
    return [math.sqrt((1 - alpha) / alpha) for alpha in (first, last)]


@pytest.mark.parametrize(
    "sampler", ["Euler", "Heun", "DPM2", "DPM2 a", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2S", "UniPC"]
)
def test_karras_is_karras(sampler, arguments):
    """Equation 5 of arXiv:2206.00364, from the model's most noise to its least."""
    scheduler, sigmas = sigmas_of(arguments, f"{sampler} Karras", 10)
    least, most = (sigma ** (1 / RHO) for sigma in ends(scheduler))
    expected = [(most + i / 9 * (least - most)) ** RHO for i in range(10)]
    assert sigmas == pytest.approx([*expected, 0], rel=1e-4)


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM++ 2M", "UniPC"])
def test_exponential_is_exponential(sampler, arguments):
    scheduler, sigmas = sigmas_of(arguments, f"{sampler} Exponential", 10)
    least, most = (math.log(sigma) for sigma in ends(scheduler))
    expected = [math.exp(most + i / 9 * (least - most)) for i in range(10)]
    assert sigmas == pytest.approx([*expected, 0], rel=1e-4)


def test_uniform_and_sgm_uniform_lay_time_steps_evenly(arguments):
    uniform, _ = sigmas_of(arguments, "Euler Uniform", 4)
    trailing, _ = sigmas_of(arguments, "Euler SGM Uniform", 4)
    assert uniform.timesteps.tolist() == [999, 666, 333, 0]
    assert trailing.timesteps.tolist() == [999, 749, 499, 249]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Euler a Karras", "EulerAncestralDiscreteScheduler does not take use_karras_sigmas"),
        ("DDIM Exponential", "DDIMScheduler does not take use_exponential_sigmas"),
        ("DPM fast", "scheduler 'DPM fast' does not fit thin-sd; choose one of"),
        ("Euler Turbo", "scheduler 'Euler Turbo' does not fit"),
    ],
)
def test_what_no_scheduler_does_is_refused(name, words, arguments):
    with pytest.raises(RequestError, match=words):
        arguments.scheduler(scheduler_of(name))


def test_a_sampler_with_a_typo_is_told_the_right_one():
    with pytest.raises(RequestError, match="did you mean 'euler a'"):
        wished_scheduler("Eular a")
    assert wished_scheduler("Euler a") == scheduler_of("Euler a")
    assert wished_scheduler("MyOwnScheduler") == "MyOwnScheduler"
    assert scheduler_of("Eular a") == "Eular a"  # read from a picture it is nobody's mistake
