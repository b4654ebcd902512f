"""What one process is asked to measure, and what it answers: one JSON text each way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        model: "sd15", "sdxl" or "flux": the shape; its weights are random, by a fixed seed.
        tool: who does less, a name of tools.py.
        settings: what the tool is told.
        size: side of the image in pixels.
        guided: two rows in a forward instead of one.
        timed: whether an image of one step is drawn beforehand with the tool on, so that no time
            goes into first touches.
        tiny: a model of the same parts but a few channels: to try the command itself.
    """

    model: str
    tool: str
    settings: dict[str, Any]
    size: int
    steps: int
    threads: int
    dtype: str
    guided: bool = False
    timed: bool = True
    tiny: bool = False

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Job:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Measured:
    """One image.

    Attributes:
        seconds: from the call of the pipeline to the end of its last step.
        cpu: seconds that all threads of the process ran in that time; with one thread the better
            measure on a busy machine (of several threads those that wait for others run, too).
        steps: seconds of each step.
        whole: for each step 1 where the deepest layer ran, else 0.
        kept: bytes of the tensors that the tool keeps at the end of the last step.
        kept16: the same tensors' bytes if their numbers had 16 bits each.
        versions: of torch, diffusers and the tool.
    """

    seconds: float
    cpu: float
    steps: list[float]
    whole: str
    kept: int
    kept16: int
    versions: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Measured:
        return cls(**json.loads(text))
