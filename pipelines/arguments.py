"""Parameters to the arguments of one model's own diffusers pipeline, and what it can be asked.

Pipelines differ in what they take and what they call it; anything a pipeline would ignore or
quietly change (a size it rounds, an argument it lacks) is refused by name instead.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from diffusers import DiffusionPipeline, SchedulerMixin

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.scheduler_choice import SchedulerChoice
from mindsd.pipelines.tiles import can_tile, tile_share
from mindsd.stepcache.course import flows
from mindsd.weights.defaults import CallDefaults

OPEN = CallDefaults()
DECODER_COPIES = 4  # full-size feature maps alive at once in an autoencoder's last level (estimate)


# One request is one image with its own random numbers, handed on as PIL.
FIXED = frozenset({"generator", "return_dict", "num_images_per_prompt", "output_type"})
# What has a name of ours is said by that name, where it is checked.
NAMED = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "strength": "strength",
    "width": "width",
    "height": "height",
}


def _copied(value: Any) -> Any:
    """The containers anew, what they hold as it is."""
    if isinstance(value, dict):
        return {name: _copied(own) for name, own in value.items()}
    return [_copied(own) for own in value] if isinstance(value, list) else value


def settable(kind: type) -> set[str]:
    """The arguments of a pipeline's call that options may set."""
    return set(inspect.signature(kind.__call__).parameters) - FIXED - set(NAMED) - {"self"}


class Arguments:
    """What one pipeline takes."""

    def __init__(self, pipe: DiffusionPipeline, name: str, defaults: CallDefaults = OPEN):
        self.pipe: Any = pipe
        self.name = name
        self.defaults = defaults
        self.accepted = inspect.signature(type(pipe).__call__).parameters

    def filled(self, parameters: ImageParameters) -> ImageParameters:
        """The model folder's own choices where the parameters say nothing, and a speed's plan."""
        chosen = {
            name: getattr(self.defaults, name)
            for name in ("steps", "guidance")
            if getattr(parameters, name) is None
        }
        own = {k: v for k, v in self.defaults.options.items() if k in self.accepted}
        less = parameters.acceleration.settled(flow=self.flows)
        options = {**own, **parameters.options}
        return replace(parameters, **chosen, options=options, acceleration=less)

    @property
    def flows(self) -> bool:
        """Whether the model is a rectified flow."""
        scheduler = getattr(self.pipe, "scheduler", None)
        return scheduler is not None and flows(scheduler)

    def of(self, parameters: ImageParameters) -> dict[str, Any]:
        """Arguments for the pipeline's call; what was left open stays the pipeline's choice.

        Raises:
            RequestError: the pipeline does not take something that was asked.
        """
        given = {
            self.guidance_name if own == "guidance" else name: getattr(parameters, own)
            for name, own in NAMED.items()
            if own not in ("width", "height") and getattr(parameters, own) is not None
        }
        # A copy for this request: some pipelines write into the dictionaries they are given.
        given |= {name: _copied(value) for name, value in self._options(parameters).items()}
        if given.get("true_cfg_scale", 1) > 1:  # without a negative prompt it would be ignored
            given.setdefault("negative_prompt", " ")
        strange = sorted(set(given) - set(self.accepted))
        if strange:
            kind = type(self.pipe).__name__
            raise RequestError(f"{kind} does not take {', '.join(strange)}; leave it out")
        self._check_steps(given)
        self._check_strength(given)
        for name in ("width", "height"):
            if name in self.accepted:
                given[name] = getattr(parameters, name)
        return given

    def _options(self, parameters: ImageParameters) -> dict[str, Any]:
        options = dict(parameters.options)
        if fixed := sorted(FIXED & set(options)):
            raise RequestError(f"options cannot set {', '.join(fixed)}: mindsd does")
        named = {name: own for name, own in NAMED.items() if name in options}
        if self.guidance_name != "guidance_scale":
            named.pop("guidance_scale", None)
        for name, own in named.items():
            raise RequestError(f"options cannot set {name}: say {own}={options[name]!r} instead")
        for name, value in options.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RequestError(f"option {name} must be a finite number, got {value!r}")
        return options

    def _check_steps(self, given: dict[str, Any]) -> None:
        """Where steps would begin behind the last that the model knows, diffusers reads on."""
        config: Any = getattr(getattr(self.pipe, "scheduler", None), "config", {})
        known, steps = config.get("num_train_timesteps"), given.get("num_inference_steps")
        if known is None or steps is None or config.get("timestep_spacing") != "leading":
            return
        most = known - config.get("steps_offset", 0)
        if steps > most:
            raise RequestError(f"this model draws in at most {most} steps, got {steps}")

    def _check_strength(self, given: dict[str, Any]) -> None:
        """Most image-to-image forms do int(steps * strength) steps: less than one would be none."""
        timing = getattr(type(self.pipe), "get_timesteps", None)
        if timing is None or "int(num_inference_steps * strength)" not in inspect.getsource(timing):
            return
        strength, steps = (
            given.get(name, self.default(name)) for name in ("strength", "num_inference_steps")
        )
        if strength is not None and steps is not None and strength * steps < 1:
            raise RequestError(
                f"strength {strength:g} of {steps} steps is less than one step; "
                f"take a strength of at least {math.ceil(1000 / steps) / 1000:g}, or more steps"
            )

    def default(self, name: str) -> int | float | None:
        """The pipeline's own number for an argument that is left open; None where it has none."""
        value = self.accepted[name].default if name in self.accepted else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def guidance_name(self) -> str:
        """In Qwen-Image it is `true_cfg_scale`; `guidance_scale` there is for distilled models."""
        module = getattr(self.pipe, "transformer", None)
        distilled = getattr(getattr(module, "config", None), "guidance_embeds", None)
        if "true_cfg_scale" in self.accepted and distilled is False:
            return "true_cfg_scale"
        return "guidance_scale"

    def guides(self, scale: float) -> bool:
        """Whether the pipeline computes an unconditional branch at this guidance scale."""
        asked = copy.copy(self.pipe)
        for name in ("_guidance_scale", "_true_cfg_scale"):
            object.__setattr__(asked, name, scale)
        try:
            return bool(asked.do_classifier_free_guidance)
        except AttributeError:  # it does not say: as nearly all do
            return scale > 1

    def memory(self, parameters: ImageParameters, total: int) -> int:
        """Bytes of activations at the worst moment, the decoder's last level (an estimate).

        Raises:
            RequestError: it is more than the `total` bytes that the device has, in tiles, too.
        """
        assert parameters.width and parameters.height
        vae = getattr(self.pipe, "vae", None)
        if vae is None:
            return 0
        widths = getattr(vae.config, "block_out_channels", None) or [128]
        itemsize = next(vae.parameters()).element_size()
        needed = parameters.width * parameters.height * widths[0] * itemsize * DECODER_COPIES
        least = needed
        if can_tile(vae) and "image" not in self.accepted:  # a picture is encoded whole
            cells = [side >> (len(widths) - 1) for side in (parameters.height, parameters.width)]
            least = int(needed * tile_share(*cells))
        if least > total:
            raise RequestError(
                f"{parameters.width}x{parameters.height} needs about {least / 2**30:.1f} GiB to "
                f"decode, and this device has {total / 2**30:.1f}; ask for a smaller size"
            )
        return needed

    def scheduler(self, text: str, steps: int | None = None) -> Any:
        """The scheduler of this choice, with the model's own noise schedule.

        Raises:
            RequestError: it does not fit the model's own scheduler, needs what is missing, or
                cannot do so many steps.
        """
        choice = SchedulerChoice.parse(text)
        own: Any = getattr(self.pipe, "scheduler", None)
        kinds = {kind.__name__: kind for kind in getattr(own, "compatibles", [])}
        # diffusers also lists schedulers whose library is missing, as classes that only complain.
        fitting = sorted(name for name, kind in kinds.items() if issubclass(kind, SchedulerMixin))
        if choice.kind in fitting:
            made = choice.make(kinds[choice.kind], own.config)
            choice.check(made, steps)
            return made
        if choice.kind in kinds:
            needed = kinds[choice.kind]._backends
            missing = [name for name in needed if not find_spec(name)] or needed
            raise RequestError(
                f"{choice.kind} needs {', '.join(missing)}: pip install {' '.join(missing)}"
            )
        known = ", ".join(fitting)
        raise RequestError(f"scheduler {text!r} does not fit {self.name}; choose one of {known}")
