"""A speed by name computes what its plan says, on whichever kind of model and spacing of steps.

Without an engine nothing but the scheduler says which kind a model is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from diffusers import EulerDiscreteScheduler

from mindsd.config import Acceleration, speed_named
from mindsd.pipelines.accelerate import accelerate
from mindsd.stepcache.plan import Kind, StepCache
from mindsd.stepcache.trajectory import Trajectory
from mindsd.wrap import wrap
from tests.zoo.cases import CASES
from tests.zoo.drawing import plain

STEPS = 24


@pytest.mark.parametrize(("family", "steps"), [("sd", 7), ("sd3", 8), ("flux", 8), ("z-image", 8)])
def test_so_many_steps_are_computed(family: str, steps: int):
    case, computed = CASES[family], []
    pipe: Any = case.pipe()

    def count(original: Any, *args: Any, **kwargs: Any) -> Any:
        computed.append(1)
        return original(*args, **kwargs)

    denoiser = pipe.components.get("unet") or pipe.components["transformer"]
    with wrap(denoiser, "forward", count), accelerate(pipe, speed="fast"):  # pyright: ignore
        plain(pipe, {**case.asked()[0], "num_inference_steps": STEPS})
    assert len(computed) in (steps, 2 * steps)  # with guidance some call twice a step


def times(acceleration: Acceleration, *, curved: bool) -> tuple[list[float], list[float]]:
    """Of all steps, and of those that are computed."""
    scheduler: Any = EulerDiscreteScheduler(use_karras_sigmas=curved)
    trajectory = Trajectory(scheduler, acceleration)
    scheduler.set_timesteps(STEPS)
    trajectory.position(0, scheduler.timesteps[0])
    every, kinds = scheduler.timesteps.tolist(), trajectory.kinds or []
    trajectory.remove()
    return every, [t for t, kind in zip(every, kinds, strict=True) if kind is Kind.WHOLE]


def test_steps_on_a_curve_are_computed_at_the_same_noise():
    """Within one step of it; by their number most would lie where there is nothing but noise."""
    _, asked = times(speed_named("balanced"), curved=False)
    every, found = times(speed_named("balanced"), curved=True)
    step = max(before - after for before, after in pairwise(every))
    mask = str(speed_named("balanced").settled(flow=False).step_cache).removesuffix(",timed=1")
    _, numbered = times(Acceleration(StepCache.parse(mask)), curved=True)

    def farthest(computed: list[float]) -> float:
        return max(min(abs(time - own) for own in computed) for time in asked)

    assert farthest(found) < step < farthest(numbered)
    assert abs(len(found) - len(asked)) <= 1
