"""The best plan is the best of all plans, and a recording is what the scheduler was given."""

from itertools import combinations

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

from mindsd.stepcache.calibration import FARTHEST, Calibration, best_masks
from mindsd.stepcache.forecast import Anchor
from mindsd.stepcache.plan import Kind
from mindsd.stepcache.schedule import Noise, noises

STEPS = 8


def trajectory() -> tuple[list[torch.Tensor], list[Noise]]:
    """Two images whose clean latents wander, faster at the start."""
    along = [Noise((i + 1) / (STEPS + 1), 1 - (i + 1) / (STEPS + 1)) for i in range(STEPS)]
    generator = torch.Generator().manual_seed(3)
    paces = torch.randn(STEPS, 2, 3, 4, generator=generator) / torch.arange(1, STEPS + 1).reshape(
        -1, 1, 1, 1
    )
    return list(paces.cumsum(0) + 2), along


def cost(mask: tuple[int, ...]) -> float:
    """The same sum, by walking along the plan."""
    clean, along = trajectory()
    anchor, total = Anchor(clean[0], along[0].log_snr), 0.0
    for here, there in zip(mask, mask[1:], strict=False):
        run = 0.0
        for step in range(here + 1, there):
            off = (clean[step] - anchor.forecast(along[step].log_snr)).abs().flatten(1).mean(1)
            size = clean[step].abs().flatten(1).mean(1)
            distance = torch.tensor(along[step + 1].log_snr - along[step].log_snr)
            run += float((off / size).mean() * (1 - torch.exp(-distance)))
        total += run**2
        anchor = anchor.next(clean[there], along[there].log_snr)
    return total


def test_no_plan_with_as_many_steps_costs_less():
    found = best_masks(*trajectory())
    for count in range(2, STEPS + 1):
        middles = combinations(range(1, STEPS - 1), count - 2)
        every = [(0, *middle, STEPS - 1) for middle in middles]
        assert cost(tuple(sorted(found[count]))) == pytest.approx(min(map(cost, every)), rel=1e-4)


def test_steps_that_are_computed_are_never_too_far_apart():
    clean, along = trajectory()
    long = clean * 4
    masks = best_masks(long, (along * 4))
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
        assert len(calibration.clean) == 6 and "step" in vars(scheduler)
        for step in calibration.clean:
            assert torch.allclose(torch.cat(step), torch.full((4, 1, 2, 2), 0.4), atol=1e-3)
        plans = calibration.plans()
    assert "step" not in vars(scheduler)
    for count, plan in plans.items():
        assert sum(k is Kind.WHOLE for k in plan.mask or ()) == count
        assert plan.fixed(6) == list(plan.mask or ())  # though it is a short way
