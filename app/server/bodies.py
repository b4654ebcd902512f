"""The base of every request body: nothing unknown, nothing converted, no number that is none."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
ModelId = Annotated[str, Field(min_length=1, max_length=64, pattern=ID)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Priority = Annotated[int, Field(ge=-100, le=100)]


class Body(BaseModel):
    """A JSON object. Every number of a subclass has bounds (tests/security holds it), for a float
    without any would take NaN and a whole number any length."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
