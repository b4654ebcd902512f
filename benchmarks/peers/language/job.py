"""What one process is asked to measure, and what it answers: one JSON text each way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """One engine's measurements.

    Attributes:
        engine: a name of engines.py.
        settings: what the engine is told.
        weights: the folder or file that it loads.
        greedy: tokens of a real prompt, to see whether greedy text is the same everywhere.
        greedy_tokens: how many tokens of that text are drawn.
        batches: how many requests are decoded together.
        prompt: tokens of each prompt before them.
        drawn: tokens drawn for each after the first one.
        prefill: tokens of the one prompt whose reading is timed.
        repeats: each timing is the median of so many.
    """

    engine: str
    settings: dict[str, Any]
    weights: str
    greedy: list[int]
    threads: int
    greedy_tokens: int = 16
    batches: tuple[int, ...] = (1, 8, 32)
    prompt: int = 32
    drawn: int = 64
    prefill: int = 512
    repeats: int = 3

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Job:
        known = json.loads(text)
        return cls(**known | {"batches": tuple(known["batches"])})


@dataclass(frozen=True)
class Measured:
    """One process.

    Attributes:
        decode: tokens of all requests for each second, by batch size, without the prompts' time.
        prefill: prompt tokens for each second.
        greedy: the tokens drawn after the real prompt.
        versions: of what took part.
    """

    decode: dict[str, float]
    prefill: float
    greedy: list[int]
    versions: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Measured:
        return cls(**json.loads(text))
