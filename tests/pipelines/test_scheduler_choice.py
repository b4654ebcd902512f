"""A scheduler in place of the model's: what can be chosen, and what cannot."""

from __future__ import annotations

import diffusers
import pytest

from mindsd.errors import RequestError
from mindsd.pipelines.scheduler_choice import MOST_NOISE, SchedulerChoice

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ENDLESS = {**SCHEDULE, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}


def make(text: str, **config: object):
    choice = SchedulerChoice.parse(text)
    return choice.make(getattr(diffusers, choice.kind), config or SCHEDULE)


def test_a_name_alone():
    assert SchedulerChoice.parse("EulerDiscreteScheduler") == SchedulerChoice(
        "EulerDiscreteScheduler"
    )


def test_options_are_typed():
    choice = SchedulerChoice.parse("X( solver_order=3, use_karras_sigmas = True)")
    assert choice == SchedulerChoice("X", {"solver_order": 3, "use_karras_sigmas": True})
    assert choice.options["use_karras_sigmas"] is True


@pytest.mark.parametrize("text", ["", "Euler a", "X(a=1)(b=2)", "X(", "a.b", "X\n()y"])
def test_what_has_no_such_form_is_a_name(text: str):
    assert SchedulerChoice.parse(text) == SchedulerChoice(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("X(num_train_timesteps=1000000000)", "options are .*not 'num_train_timesteps'"),
        ("X(beta_start=0)", "not 'beta_start'"),
        ("X(karras)", "not 'karras'"),
        ("X(solver_order=4)", "solver_order must be one of 1, 2, 3, got '4'"),
        ("X(use_karras_sigmas=yes)", "use_karras_sigmas must be one of True, False, got 'yes'"),
    ],
)
def test_what_cannot_be_chosen_is_refused(text: str, words: str):
    with pytest.raises(RequestError, match=words):
        SchedulerChoice.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("LCMScheduler(use_karras_sigmas=True)", "LCMScheduler does not take use_karras_sigmas; "),
        (
            "EulerDiscreteScheduler(use_karras_sigmas=True, use_exponential_sigmas=True)",
            "EulerDiscreteScheduler cannot be made so: Only one of",
        ),
    ],
)
def test_what_the_class_cannot_do_is_refused(text: str, words: str):
    with pytest.raises(RequestError, match=words):
        make(text)


def test_one_way_to_lay_the_steps_takes_the_place_of_the_models():
    own = {**SCHEDULE, "use_karras_sigmas": True}
    assert make("EulerDiscreteScheduler", **own).config["use_karras_sigmas"]
    for text in ("use_exponential_sigmas=True", "timestep_spacing=linspace"):
        assert not make(f"EulerDiscreteScheduler({text})", **own).config["use_karras_sigmas"]


@pytest.mark.parametrize("kind", ["EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"])
def test_noise_without_end_is_cut_where_steps_are_curved(kind: str):
    curved = make(f"{kind}Scheduler(use_karras_sigmas=True)", **ENDLESS)
    curved.set_timesteps(10)
    assert curved.sigmas[0] == pytest.approx(MOST_NOISE)
    even = make(f"{kind}Scheduler(timestep_spacing=trailing)", **ENDLESS)
    even.set_timesteps(10)
    assert even.sigmas[0] > 1000


def test_steps_so_close_that_two_are_one_are_refused():
    choice = SchedulerChoice.parse("DPMSolverMultistepScheduler(use_karras_sigmas=True)")
    made = choice.make(diffusers.DPMSolverMultistepScheduler, ENDLESS)
    choice.check(made, 60)
    choice.check(made, 1)
    with pytest.raises(RequestError, match="cannot do 150 steps so"):
        choice.check(made, 150)
