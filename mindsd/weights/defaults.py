"""What a model wants to be called with where a request says nothing.

A folder of an image model says it in `mindsd.json`, a language model in `generation_config.json`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError, RequestError
from mindsd.sampling.parameters import Sampling
from mindsd.weights.safe import read_object

DEFAULTS = "mindsd.json"
GENERATION = "generation_config.json"
SOURCES = ("auto", "mindsd")  # of how tokens are drawn: the model's file, or what `Sampling` says
DRAWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class CallDefaults:
    """A folder's own choices; `None` leaves one to the diffusers pipeline.

    Attributes:
        steps: denoising steps, at least 1.
        guidance: classifier-free guidance scale, >= 0.
        options: further arguments of the pipeline, by their diffusers names.
    """

    steps: int | None = None
    guidance: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps, guidance = self.steps, self.guidance
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
        if guidance is not None and not _is_scale(guidance):
            raise ValueError(f"guidance must be a finite number of at least 0, got {guidance!r}")
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be an object, got {self.options!r}")


def read_defaults(folder: Path) -> CallDefaults:
    """The choices in a folder's `mindsd.json`; all left open where there is no such file.

    Raises:
        ModelError: the file holds an unknown key or a wrong value.
    """
    file = folder / DEFAULTS
    if not file.is_file():
        return CallDefaults()
    found = read_object(file)
    known = CallDefaults.__dataclass_fields__
    if strange := sorted(set(found) - set(known)):
        raise ModelError(f"{file} has an unknown key {strange[0]!r}; it takes {', '.join(known)}")
    try:
        return CallDefaults(**found)
    except ValueError as error:
        raise ModelError(f"{file}: {error}") from None


def sampling_defaults(model: Any, name: str, source: str = "auto") -> dict[str, Any]:
    """How a language model says that its tokens are to be drawn.

    What is said counts as in vLLM, where `do_sample` is left out as well; `do_sample` false is
    temperature 0, as transformers takes it.

    Args:
        model: transformers' module, which has read the file.
        name: of the model.
        source: "auto", or "mindsd" for a model that is not to be asked.

    Returns:
        Fields of `Sampling`: those of `DRAWN` that are said.

    Raises:
        ModelError: what is said is no number, or out of its range.
        RequestError: the source is unknown.
    """
    if source not in SOURCES:
        raise RequestError(f"generation_config must be {' or '.join(SOURCES)}, got {source!r}")
    config = getattr(model, "generation_config", None) if source == "auto" else None
    said = {field: getattr(config, field, None) for field in DRAWN}
    found = {field: value for field, value in said.items() if value is not None}
    samples = getattr(config, "do_sample", None)
    try:
        if not isinstance(samples, bool | None):
            raise RequestError(f"do_sample is true or false, got {samples!r}")
        if samples is False:
            found["temperature"] = 0.0
        Sampling.parse(found)
    except RequestError as error:
        raise ModelError(
            f"{name} says in {GENERATION} how its tokens are drawn, but {error}; correct it there, "
            'or load the model with generation_config="mindsd"'
        ) from None
    return found


def _is_scale(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0
