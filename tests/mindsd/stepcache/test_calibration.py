"""The best plan is the best of all plans, and a recording is what the scheduler was given."""

from itertools import combinations
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

from mindsd.stepcache.calibration import FARTHEST, Calibration, best_masks
from mindsd.stepcache.course import Course
from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.plan import Kind
from mindsd.stepcache.schedule import Noise, Prediction, noises

STEPS = 8


def trajectory() -> tuple[list[torch.Tensor], list[Noise]]:
    """Two images whose clean latents wander, faster at the start."""
    along = [Noise((i + 1) / (STEPS + 1), 1 - (i + 1) / (STEPS + 1)) for i in range(STEPS)]
    generator = torch.Generator().manual_seed(3)
    paces = torch.randn(STEPS, 2, 3, 4, generator=generator) / torch.arange(1, STEPS + 1).reshape(
        -1, 1, 1, 1
    )
    return list(paces.cumsum(0) + 2), along


DIFFUSION, FLOW = Course(), Course(Prediction.FLOW, straight=True)


def cost(mask: tuple[int, ...], course: Course) -> float:
    """The same sum, by walking along the plan."""
    clean, along = trajectory()
    at = [course.at(noise) for noise in along]
    anchor, total = Anchor(clean[0], at[0]), 0.0
    for here, there in zip(mask, mask[1:], strict=False):
        run = 0.0
        for step in range(here + 1, there):
            off = (clean[step] - anchor.forecast(at[step])).abs().flatten(1).mean(1)
            size = clean[step].abs().flatten(1).mean(1)
            distance = torch.tensor(at[step + 1] - at[step])
            share = -distance if course.straight else 1 - torch.exp(-distance)
            run += float((off / size).mean() * share)
        total += run**2
        anchor = anchor.next(clean[there], at[there])
    return total


@pytest.mark.parametrize("course", [DIFFUSION, FLOW], ids=["diffusion", "flow"])
def test_no_plan_with_as_many_steps_costs_less(course: Course):
    found = best_masks(*trajectory(), course)
    for count in range(2, STEPS + 1):
        middles = combinations(range(1, STEPS - 1), count - 2)
        every = [(0, *middle, STEPS - 1) for middle in middles]
        least = min(cost(mask, course) for mask in every)
        assert cost(tuple(sorted(found[count])), course) == pytest.approx(least, rel=1e-4)


def test_steps_that_are_computed_are_never_too_far_apart():
    clean, along = trajectory()
    long = clean * 4
    masks = best_masks(long, (along * 4), DIFFUSION)
    fewest = sorted(masks[min(masks)])
    gaps = [b - a for a, b in zip(fewest, fewest[1:], strict=False)]
    assert max(gaps) <= FARTHEST and fewest[0] == 0 and fewest[-1] == len(long) - 1


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_a_recording_is_of_the_clean_latents_at_each_step(kind):
    scheduler = kind()
    picture = torch.full((2, 1, 2, 2), 0.4)
    with Calibration(scheduler) as calibration:
        for _ in range(2):  # two runs of two images
            scheduler.set_timesteps(6)
            times = scheduler.timesteps
            along = noises(scheduler, times.tolist())
            latents = torch.randn(2, 1, 2, 2) * scheduler.init_noise_sigma
            for noise, time in zip(along, times, strict=True):
                given = scheduler.scale_model_input(latents, time)
                output = (given - noise.alpha * picture) / noise.sigma
                latents = scheduler.step(output, time, latents, return_dict=False)[0]
        assert len(calibration.values) == 6 and "step" in vars(scheduler)
        for step in calibration.values:
            assert torch.allclose(torch.cat(step), torch.full((4, 1, 2, 2), 0.4), atol=1e-3)
        plans = calibration.plans()
    assert "step" not in vars(scheduler)
    for count, plan in plans.items():
        assert sum(k is Kind.WHOLE for k in plan.mask or ()) == count
        assert plan.fixed(6) == list(plan.mask or ())  # though it is a short way


def test_a_recording_of_a_flow_is_of_its_outputs_as_they_are():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    outputs: Any = torch.randn(6, 1, 2, 2)
    with Calibration(scheduler) as calibration:
        scheduler.set_timesteps(6)
        times: Any = scheduler.timesteps
        latents: Any = torch.randn(1, 1, 2, 2)
        for output, time in zip(outputs.split(1), times, strict=True):
            (latents,) = scheduler.step(output, time, latents, return_dict=False)
        assert torch.equal(torch.cat([torch.cat(own) for own in calibration.values]), outputs)
