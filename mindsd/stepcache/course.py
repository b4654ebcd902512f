"""What of a denoiser's outputs is forecast along a trajectory, and over what.

    diffusions   the clean latents that outputs stand for, over the log-SNR
    flows        the outputs as they are, velocities, over sigma

Outputs of a diffusion change quickly whatever they are (noise, velocity); the clean latents hardly
do, least of all over the logarithm of alpha / sigma, as in DPM-Solver++ (arXiv:2211.01095). The way
of a rectified flow is nearly straight, and velocity times the change of sigma is what its solvers
add up: on tiny-dit as many computed steps come 2 to 4 dB nearer so, and what a model's pipeline
does to the sign or scale of an output does not matter. Where a sampler adds noise between the steps
velocities change with it, so there a flow is forecast like a diffusion.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mindsd.stepcache.schedule import Noise, Prediction, prediction_of


@dataclass(frozen=True)
class Course:
    """How the outputs of one trajectory go on.

    Attributes:
        prediction: what they are.
        straight: whether they are forecast as they are.
    """

    prediction: Prediction = Prediction.CLEAN
    straight: bool = False

    @classmethod
    def of(cls, scheduler: Any) -> Course:
        """The course of what this scheduler leads."""
        return cls(prediction_of(scheduler), flows(scheduler) and not _adds_noise(scheduler))

    def at(self, noise: Noise) -> float:
        """Where on its way a trajectory is."""
        return noise.sigma if self.straight else noise.log_snr

    def value(self, noise: Noise, latents: Tensor, output: Tensor) -> Tensor:
        """What is forecast, from an output."""
        return output if self.straight else noise.clean(self.prediction, latents, output)

    def output(self, noise: Noise, latents: Tensor, value: Tensor) -> Tensor:
        """The output, from what was forecast: the inverse of `value`."""
        return value if self.straight else noise.output(self.prediction, latents, value)

    def share(self, here: Noise, there: Noise | None) -> float:
        """How much of a value a solver takes on its way to the next noise; None: to the end.

        A wrong forecast does so much of its error to the picture.
        """
        if self.straight:
            return abs(here.sigma - (0.0 if there is None else there.sigma))
        return 1.0 if there is None else -math.expm1(-abs(there.log_snr - here.log_snr))


def flows(scheduler: Any) -> bool:
    """Whether it leads a rectified flow."""
    return prediction_of(scheduler) is Prediction.FLOW


def _adds_noise(scheduler: Any) -> bool:
    """Whether it does, or might, between its steps; those that do draw it from a generator."""
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return False
    config = scheduler.config
    if "algorithm_type" in config:
        return str(config["algorithm_type"]).startswith("sde")
    return bool(config.get("stochastic_sampling", True))
