"""Who comes when: independent users, as a Poisson process, some for images and some for a chat."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Literal

from mindsd.errors import RequestError

Kind = Literal["chat", "image"]
TOPICS = ("the sea", "a fox", "bread", "a clock", "snow", "a bridge", "tea", "a violin")
COLOURS = ("red", "green", "blue", "yellow", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart")


@dataclass(frozen=True)
class Targets:
    """What each user should get, in seconds; a request that misses one of its own is a miss.

    Attributes:
        first_token: from asking to the first piece of an answer.
        between_tokens: the mean between two pieces of it.
        image: from asking to the image.
    """

    first_token: float = 1.0
    between_tokens: float = 0.2
    image: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise RequestError(f"a target is above 0 seconds, {name} is {value:g}")


@dataclass(frozen=True)
class LoadPlan:
    """A load.

    Attributes:
        seconds: that users come for.
        rate: users a second, on average.
        images: share of them that want an image, 0 to 1.
        chat_model, image_model: ids.
        max_tokens: of an answer.
        steps, size: of an image; None leaves them to the model.
        seed: of the arrivals and of what is asked.
        most: users at a time; who comes beyond that is not sent and counts as failed.
    """

    seconds: float = 30.0
    rate: float = 1.0
    images: float = 0.25
    chat_model: str = "smollm2"
    image_model: str = "tiny-sd"
    max_tokens: int = 64
    steps: int | None = None
    size: str | None = None
    seed: int = 0
    most: int = 256

    def __post_init__(self) -> None:
        if not (0 < self.seconds <= 86_400 and 0 < self.rate <= 10_000):
            raise RequestError("seconds and rate are above 0, at most a day and 10000 a second")
        if not 0 <= self.images <= 1:
            raise RequestError(f"the share of images is 0 to 1, got {self.images:g}")
        if self.max_tokens < 1 or self.most < 1:
            raise RequestError("max_tokens and the users at a time are at least 1")


@dataclass(frozen=True)
class Arrival:
    """A user: when it comes (seconds from the start), and what it posts where."""

    number: int
    at: float
    kind: Kind
    path: str
    body: dict[str, Any]


def arrivals(plan: LoadPlan) -> list[Arrival]:
    """All users of a plan; the same for the same seed."""
    drawn, at, found = random.Random(plan.seed), 0.0, []
    while (at := at + drawn.expovariate(plan.rate)) < plan.seconds:
        number = len(found)
        if drawn.random() < plan.images:
            found.append(
                Arrival(number, at, "image", "/v1/images/generations", _image(plan, drawn))
            )
        else:
            found.append(Arrival(number, at, "chat", "/v1/chat/completions", _chat(plan, drawn)))
    return found


def _image(plan: LoadPlan, drawn: random.Random) -> dict[str, Any]:
    told = {
        "model": plan.image_model,
        "prompt": f"a {drawn.choice(COLOURS)} {drawn.choice(SHAPES)}",
        "seed": drawn.randrange(2**31),
        "steps": plan.steps,
        "size": plan.size,
    }
    return {name: value for name, value in told.items() if value is not None}


def _chat(plan: LoadPlan, drawn: random.Random) -> dict[str, Any]:
    said = f"Write {drawn.randint(2, 9)} sentences about {drawn.choice(TOPICS)}."
    return {
        "model": plan.chat_model,
        "messages": [{"role": "user", "content": said}],
        "max_tokens": plan.max_tokens,
        "temperature": 0.7,
        "seed": drawn.randrange(2**31),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
