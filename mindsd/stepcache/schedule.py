"""What a scheduler's times mean: how noisy the latents are, and what a prediction says of them.

    latents = alpha * clean + sigma * noise         diffusions: alpha^2 + sigma^2 = 1
                                                    flows:      alpha + sigma = 1

What of that is forecast along a trajectory, course.py says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

LEAST = 1e-4  # alpha and sigma below this count as this: nothing is divided by zero
FAR = 5.0  # log-SNR beyond which more noise, or less, makes no difference to a forecast


class Prediction(Enum):
    """What a denoiser's output is, by diffusers' names."""

    NOISE = "epsilon"
    VELOCITY = "v_prediction"
    CLEAN = "sample"
    FLOW = "flow_prediction"


@dataclass(frozen=True)
class Noise:
    """The latents at one time.

    Attributes:
        alpha, sigma: shares of clean latents and of noise, from `LEAST` up.
    """

    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """log(alpha / sigma), from -FAR (nothing but noise) to FAR (none)."""
        return max(-FAR, min(FAR, math.log(self.alpha / self.sigma)))

    def clean(self, prediction: Prediction, latents: Tensor, output: Tensor) -> Tensor:
        """The clean latents that a prediction stands for."""
        if prediction is Prediction.NOISE:
            return (latents - self.sigma * output) / self.alpha
        if prediction is Prediction.VELOCITY:
            return self.alpha * latents - self.sigma * output
        return latents - self.sigma * output if prediction is Prediction.FLOW else output

    def output(self, prediction: Prediction, latents: Tensor, clean: Tensor) -> Tensor:
        """The prediction that stands for these clean latents: the inverse of `clean`."""
        if prediction is Prediction.NOISE:
            return (latents - self.alpha * clean) / self.sigma
        if prediction is Prediction.VELOCITY:
            return (self.alpha * latents - clean) / self.sigma
        return (latents - clean) / self.sigma if prediction is Prediction.FLOW else clean

    def noise_change(self, prediction: Prediction) -> float:
        """How much the predicted noise changes for each unit that an output changes."""
        if prediction is Prediction.NOISE:
            return 1.0
        return self.alpha / (self.sigma if prediction is Prediction.CLEAN else 1.0)


def prediction_of(scheduler: Any) -> Prediction:
    """What the scheduler takes an output for. Where it does not say: a flow, or used as it is."""
    said = getattr(scheduler.config, "prediction_type", None)
    if _scales_outputs(scheduler):
        return Prediction.CLEAN
    if said in {own.value for own in Prediction}:
        return Prediction(said)
    return Prediction.FLOW if "Flow" in type(scheduler).__name__ else Prediction.CLEAN


def _scales_outputs(scheduler: Any) -> bool:
    """Whether it mixes outputs with latents by a rule of its own (Karras et al., 2206.00364)."""
    sigmas = hasattr(scheduler, "sigmas") and hasattr(scheduler.config, "sigma_data")
    return sigmas and not hasattr(scheduler, "alphas_cumprod")


def noises(scheduler: Any, times: list[float]) -> list[Noise]:
    """The noise at each of the scheduler's present times."""
    sigmas = getattr(scheduler, "sigmas", None)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if sigmas is not None and len(sigmas) >= len(times):
        values = [float(s) for s in sigmas[: len(times)]]
        between = getattr(scheduler, "sigmas_interpol", None)  # where second stages stand
        if between is not None and len(between) >= len(times):
            values[1::2] = [float(s) for s in between[1 : len(times) : 2]]
        scale = float(scheduler.config.sigma_data) if _scales_outputs(scheduler) else 1.0
        flows = prediction_of(scheduler) is Prediction.FLOW or alphas is None
        flows = flows and max(values) <= 1
        pairs = [(1 - s, s) if flows else _unit(s / scale) for s in values]
    elif alphas is not None:
        last = len(alphas) - 1
        kept = [float(alphas[min(last, max(0, round(t)))]) for t in times]
        pairs = [(a**0.5, (1 - a) ** 0.5) for a in kept]
    else:
        shares = [t / max(times[0], 1.0) for t in times]
        pairs = [(1 - s, s) for s in shares]
    return [Noise(max(alpha, LEAST), max(sigma, LEAST)) for alpha, sigma in pairs]


def _unit(ratio: float) -> tuple[float, float]:
    """alpha and sigma of a diffusion from sigma / alpha."""
    size = math.hypot(1.0, ratio)
    return 1 / size, ratio / size


def first_index(scheduler: Any, times: list[float], timestep: Any) -> int:
    """Which time the first call is made at: image-to-image starts late.

    Schedulers that can be told so know it; for the others the call's own time says it, unless the
    model counts time otherwise than its scheduler (flows often pass 0 to 1).
    """
    known = getattr(scheduler, "begin_index", None)
    if known is not None:
        return int(known)
    time = float(torch.as_tensor(timestep).flatten()[0])
    if time <= 1 < times[0]:
        return 0
    near = [abs(own - time) for own in times]
    # Of a time that comes twice the first is the end of the step before.
    return len(near) - 1 - near[::-1].index(min(near))
