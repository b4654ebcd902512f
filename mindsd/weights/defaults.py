"""What a model folder wants its pipeline to be called with where a request says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindsd.errors import ModelError
from mindsd.weights.safe import read_object

DEFAULTS = "mindsd.json"


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


def _is_scale(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0
