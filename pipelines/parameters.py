"""What one image is asked to be: checked when made, the same for every face."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from mindsd.config import PLAIN, Acceleration, speed_named
from mindsd.errors import RequestError

MAX_STEPS = 1000  # diffusion models are trained on 1000 time steps
MAX_SEED = 2**63 - 1  # what a torch.Generator takes
MAX_LORAS = 16
MAX_LORA_WEIGHT = 10.0

Loras = Sequence[tuple[str, float]] | Mapping[str, float]  # names, and how strong each is


@dataclass(frozen=True)
class ImageParameters:
    """One image. `None` leaves a choice to the model's folder, else to its own pipeline.

    Attributes:
        prompt: what to draw.
        negative_prompt: what to stay away from.
        steps: denoising steps, 1 to 1000.
        guidance: classifier-free guidance scale, >= 0; most pipelines turn it off at 1 and below.
        seed: of the noise, 0 to 2^63 - 1; drawn on the CPU, so it means the same on every device.
        width, height: pixels.
        strength: how much of the given image is drawn anew, above 0 to 1 (image-to-image, inpaint).
        scheduler: name of a diffusers scheduler class, e.g. "EulerDiscreteScheduler", and options
            in parentheses, e.g. "EulerDiscreteScheduler(use_karras_sigmas=True)".
        acceleration: what is left out to be faster; nothing by default.
        loras: names of LoRA adapters that were added to the model, and the weight of each, -10 to
            10; a list or a mapping is kept as a tuple.
        weighted: the prompts are in A1111's form, (word:1.2), [word], BREAK, and may be longer than
            the text encoder's window.
        options: further arguments of the model's own pipeline, by their diffusers names.
    """

    prompt: str
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None
    strength: float | None = None
    scheduler: str | None = None
    acceleration: Acceleration = PLAIN
    loras: tuple[tuple[str, float], ...] = ()
    weighted: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise RequestError(f"a prompt is text, got {type(self.prompt).__name__}")
        _check_whole("steps", self.steps, 1, MAX_STEPS)
        _check_whole("seed", self.seed, 0, MAX_SEED)
        _check_whole("width", self.width, 1, 2**16)
        _check_whole("height", self.height, 1, 2**16)
        _check_real("guidance", self.guidance, 0.0, math.inf)
        if self.strength == 0:
            raise RequestError("strength 0 would return the image as it is; use above 0 up to 1")
        _check_real("strength", self.strength, 0.0, 1.0)
        if not isinstance(self.weighted, bool):
            raise RequestError(f"weighted is True or False, got {self.weighted!r}")
        if not isinstance(self.options, Mapping):
            raise RequestError(f"options are a dictionary, got {type(self.options).__name__}")
        if not isinstance(self.acceleration, Acceleration):
            raise RequestError(f"an acceleration is an Acceleration, got {self.acceleration!r}")
        object.__setattr__(self, "loras", _loras(self.loras))


class Wishes(TypedDict, total=False):
    """Keyword arguments of the image pipelines: fields of `ImageParameters`, and for several images

    images_per_prompt: how many of each prompt, at least 1; seed: of the first image, the others
    count up from it; drawn at random when it is left out; speed: an acceleration by name.
    """

    negative_prompt: str | None
    steps: int | None
    guidance: float | None
    seed: int | None
    width: int | None
    height: int | None
    strength: float | None
    scheduler: str | None
    acceleration: Acceleration | None
    speed: str | None
    loras: Loras
    weighted: bool
    options: Mapping[str, Any]
    images_per_prompt: int


def several(prompts: str | Sequence[str], **wishes: Unpack[Wishes]) -> list[ImageParameters]:
    """Parameters for every image of every prompt.

    Raises:
        RequestError: there is no prompt, or a wish is wrong.
    """
    if not isinstance(prompts, str | Sequence):
        raise RequestError(f"a prompt is text, got {type(prompts).__name__}")
    if strange := sorted(set(wishes) - set(Wishes.__annotations__)):
        known = ", ".join(Wishes.__annotations__)
        raise RequestError(f"unknown {strange[0]}: it takes {known}; options take the pipeline's")
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    each, seed = wishes.pop("images_per_prompt", 1), wishes.pop("seed", None)
    speed, acceleration = wishes.pop("speed", None), wishes.pop("acceleration", None)
    if speed is not None and acceleration is not None:
        raise RequestError("say an acceleration or a speed, one of the two")
    chosen = acceleration or (PLAIN if speed is None else speed_named(speed))
    if not texts:
        raise RequestError("the list of prompts is empty; give at least one prompt")
    _check_whole("images per prompt", each, 1, 2**16)
    first = secrets.randbelow(2**32) if seed is None else seed
    _check_whole("seed", first, 0, MAX_SEED)
    repeated = [text for text in texts for _ in range(each)]
    return [
        ImageParameters(text, seed=first + i, acceleration=chosen, **wishes)  # pyright: ignore
        for i, text in enumerate(repeated)
    ]


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels from "512x384" or, for a square, "512".

    Raises:
        RequestError: it is neither.
    """
    parts = text.lower().replace("*", "x").split("x")
    if len(parts) == 1:
        parts *= 2
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise RequestError(f"size {text!r} is not WIDTHxHEIGHT in pixels, e.g. 512x512")
    return int(parts[0]), int(parts[1])


def _loras(given: Any) -> tuple[tuple[str, float], ...]:
    """Names and weights, checked."""
    pairs = given.items() if isinstance(given, Mapping) else given
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise RequestError(f"loras are pairs of a name and a weight, got {given!r}")
    found: dict[str, float] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise RequestError(f"loras are pairs of a name and a weight, got {pair!r}")
        name, weight = pair
        if weight is None:
            raise RequestError(f"the weight of LoRA {name!r} must be a finite number, got None")
        _check_real(f"the weight of LoRA {name!r}", weight, -MAX_LORA_WEIGHT, MAX_LORA_WEIGHT)
        if name in found:
            raise RequestError(f"LoRA {name!r} is named twice; add its weights")
        found[name] = float(weight)
    if len(found) > MAX_LORAS:
        raise RequestError(f"{len(found)} LoRAs are more than {MAX_LORAS}, the most for one image")
    return tuple(found.items())


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise RequestError(f"{name} must be {low} to {high}, got {value}")


def _check_real(name: str, value: Any, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"{name} must be a finite number, got {value!r}")
    if not low <= value <= high:
        span = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        raise RequestError(f"{name} must be {span}, got {value:g}")
