"""What Automatic1111 calls the samplers that diffusers calls schedulers."""

from __future__ import annotations

NAMES = {
    "Euler": "EulerDiscreteScheduler",
    "Euler a": "EulerAncestralDiscreteScheduler",
    "Heun": "HeunDiscreteScheduler",
    "LMS": "LMSDiscreteScheduler",
    "DPM2": "KDPM2DiscreteScheduler",
    "DPM2 a": "KDPM2AncestralDiscreteScheduler",
    "DPM++ 2M": "DPMSolverMultistepScheduler",
    "DPM++ 2S": "DPMSolverSinglestepScheduler",
    "DPM++ SDE": "DPMSolverSDEScheduler",
    "DDIM": "DDIMScheduler",
    "DDPM": "DDPMScheduler",
    "PLMS": "PNDMScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "LCM": "LCMScheduler",
}


def scheduler_of(sampler: str) -> str:
    """The diffusers class of a sampler; any other name as it is."""
    return {name.lower(): kind for name, kind in NAMES.items()}.get(sampler.lower(), sampler)


def sampler_of(scheduler: str) -> str:
    """Automatic1111's name of a diffusers class; the class's own where it has none."""
    return {kind: name for name, kind in NAMES.items()}.get(scheduler, scheduler)
