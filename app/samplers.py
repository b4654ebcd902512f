"""What Automatic1111 calls the samplers and schedule types that diffusers makes of schedulers.

Both sides as text: "DPM++ 2M Karras", or "DPM++ 2M" and "Karras", is
`DPMSolverMultistepScheduler(use_karras_sigmas=True)` (pipelines/scheduler_choice.py). A combination
that the class of a sampler cannot have is refused where the model is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from mindsd.errors import RequestError

MULTISTEP, SDE = "DPMSolverMultistepScheduler", "algorithm_type=sde-dpmsolver++"
# Name -> class and what is set.
SAMPLERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Euler": ("EulerDiscreteScheduler", ()),
    "Euler a": ("EulerAncestralDiscreteScheduler", ()),
    "Heun": ("HeunDiscreteScheduler", ()),
    "LMS": ("LMSDiscreteScheduler", ()),
    "DPM2": ("KDPM2DiscreteScheduler", ()),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", ()),
    "DPM++ 2M": (MULTISTEP, ()),
    "DPM++ 2M SDE": (MULTISTEP, (SDE,)),
    "DPM++ 2M SDE Heun": (MULTISTEP, (SDE, "solver_type=heun")),
    "DPM++ 3M SDE": (MULTISTEP, (SDE, "solver_order=3")),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", ()),
    "DPM++ SDE": ("DPMSolverSDEScheduler", ()),
    "DDIM": ("DDIMScheduler", ()),
    "DDPM": ("DDPMScheduler", ()),
    "DEIS": ("DEISMultistepScheduler", ()),
    "PLMS": ("PNDMScheduler", ("skip_prk_steps=True",)),
    "UniPC": ("UniPCMultistepScheduler", ()),
    "LCM": ("LCMScheduler", ()),
}
SCHEDULES = {
    "Karras": "use_karras_sigmas=True",
    "Exponential": "use_exponential_sigmas=True",
    "Polyexponential": "use_exponential_sigmas=True",  # of the exponent 1 that they all use
    "Beta": "use_beta_sigmas=True",
    "Uniform": "timestep_spacing=linspace",
    "Normal": "timestep_spacing=linspace",
    "SGM Uniform": "timestep_spacing=trailing",
    "Simple": "timestep_spacing=trailing",
}
# These curve the noise between that of their first and last time step, which so must be the model's
# own first and last; the others take the model's by themselves.
SPACED = ("Euler", "Heun", "LMS", "DPM2", "DPM2 a", "DPM++ SDE")
# What "Automatic" stands for; for every other sampler, the model's own.
AUTOMATIC = {
    "DPM2": "Karras",
    "DPM2 a": "Karras",
    "DPM++ 2M": "Karras",
    "DPM++ SDE": "Karras",
    "DPM++ 2M SDE": "Exponential",
    "DPM++ 2M SDE Heun": "Exponential",
    "DPM++ 3M SDE": "Exponential",
}


def scheduler_of(sampler: str, schedule: str = "") -> str:
    """The scheduler of a sampler, which may name its schedule itself; any other name as it is."""
    name = " ".join(sampler.replace("(", " ").replace(")", " ").split())
    both = name if name.lower().endswith(f" {schedule}".lower()) else f"{name} {schedule}"
    return KNOWN.get(both.strip().lower(), f"{sampler} {schedule}".strip())


def wished_scheduler(text: str) -> str:
    """The scheduler that somebody asks for, by a sampler's name or its own.

    Raises:
        RequestError: no scheduler could have such a name, but a sampler nearly has.
    """
    found = scheduler_of(text)
    if found == text and not text.partition("(")[0].strip().endswith("Scheduler"):
        near = get_close_matches(text.strip().lower(), KNOWN, n=1, cutoff=0.75)
        if near:
            raise RequestError(f"there is no sampler {text!r}; did you mean {near[0]!r}?")
    return found


def sampler_of(scheduler: str) -> tuple[str, str]:
    """Sampler and schedule ("" for the model's own) of a scheduler, which itself is the sampler
    where Automatic1111 has none."""
    return NAMES.get(scheduler, (scheduler, ""))


def _text(sampler: str, schedule: str = "") -> str:
    kind, options = SAMPLERS[sampler]
    if schedule:
        told = SCHEDULES[schedule]
        options += (told,)
        if sampler in SPACED and not told.startswith("timestep"):
            options += (SCHEDULES["Uniform"],)
    return f"{kind}({', '.join(options)})" if options else kind


def _known() -> Iterator[tuple[str, str, str]]:
    """Sampler, schedule and scheduler of all combinations; the first of a scheduler names it."""
    for sampler in SAMPLERS:
        yield sampler, "", _text(sampler)
        for schedule in SCHEDULES:
            yield sampler, schedule, _text(sampler, schedule)
        yield sampler, "Automatic", _text(sampler, AUTOMATIC.get(sampler, ""))


KNOWN = {f"{sampler} {schedule}".strip().lower(): text for sampler, schedule, text in _known()}
NAMES = {text: (sampler, schedule) for sampler, schedule, text in reversed(list(_known()))}
NAMES["PNDMScheduler"] = ("PLMS", "")  # the model's folder may say skip_prk_steps
