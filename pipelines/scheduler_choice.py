"""Which scheduler a request wants in place of the model's: a diffusers class, and how it steps.

As text, "EulerDiscreteScheduler" or "EulerDiscreteScheduler(use_karras_sigmas=True)". Only how the
steps are laid and solved can be chosen: the noise that a model was trained on is the model's.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mindsd.errors import RequestError

FORM = re.compile(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*")
SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
# Where noise without end is cut: Karras' own limit (arXiv:2206.00364, table 1). A model of zero
# terminal SNR has 4096 there, and nearly all steps would lie where nothing is to be seen.
MOST_NOISE = 80.0
VALUES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(SIGMAS, (True, False)),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
    "solver_order": (1, 2, 3),
    "solver_type": ("midpoint", "heun", "bh1", "bh2", "logrho"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "skip_prk_steps": (True, False),
}


@dataclass(frozen=True)
class SchedulerChoice:
    """A class by name, and what it does otherwise than the model's folder says."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Any text that is no such form is a class's name, which no class will have.

        Raises:
            RequestError: an option, or the value of one, cannot be chosen.
        """
        match = FORM.fullmatch(text)
        if match is None:
            return cls(text)
        pairs = [pair.partition("=") for pair in (match[2] or "").split(",") if pair.strip()]
        return cls(match[1], dict(_option(name.strip(), value) for name, _, value in pairs))

    def make(self, kind: Any, config: Mapping[str, Any]) -> Any:
        """A scheduler of the class with the model's own noise schedule.

        Raises:
            RequestError: the class does not take an option, or not these together.
        """
        taken = inspect.signature(kind.__init__).parameters
        able = [name for name in VALUES if name in taken]
        if strange := [name for name in self.options if name not in able]:
            known = f"it takes {', '.join(able)}" if able else "it takes no options"
            raise RequestError(f"{self.kind} does not take {', '.join(strange)}; {known}")
        options = dict(self.options)
        if "timestep_spacing" in options or any(name in options for name in SIGMAS):
            # One way to lay the steps: not the model's as well.
            options = {name: False for name in SIGMAS if name in able} | options
        endless = config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" in taken
        if endless and any(options.get(name) for name in SIGMAS):
            config = {**config, "sigma_max": MOST_NOISE}
        try:
            return kind.from_config(config, **options)
        except (ValueError, ImportError, NotImplementedError) as error:
            said = " ".join(str(error).split())
            raise RequestError(f"{self.kind} cannot be made so: {said}") from None

    def check(self, scheduler: Any, steps: int | None) -> None:
        """Curved steps lie close at the start, and diffusers would take the second for the first.

        Raises:
            RequestError: there are so many that the first two fall on one time step.
        """
        if steps is None or steps < 2 or not any(self.options.get(name) for name in SIGMAS):
            return
        scheduler.set_timesteps(steps)
        first, second = scheduler.timesteps[:2].tolist()
        if first == second:
            raise RequestError(f"{self.kind} cannot do {steps} steps so: the first two are one")


def _option(name: str, value: str) -> tuple[str, Any]:
    if name not in VALUES:
        raise RequestError(f"a scheduler's options are {', '.join(VALUES)}, not {name!r}")
    known = {str(one): one for one in VALUES[name]}
    if value.strip() not in known:
        raise RequestError(f"{name} must be one of {', '.join(known)}, got {value.strip()!r}")
    return name, known[value.strip()]
