"""The world of tiny-sd: coloured shapes on a plain background, 128 by 128 pixels.

A scene is drawn at random, then told as a caption (captions.py), painted (renderer.py) and
read back from pixels (checker.py). Coordinates are pixels, y points down.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

RESOLUTION = 128

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 35, 40),
    "orange": (255, 140, 10),
    "yellow": (250, 228, 50),
    "green": (40, 155, 65),
    "blue": (40, 85, 220),
    "purple": (130, 45, 175),
    "pink": (250, 150, 200),
    "black": (20, 20, 22),
    "white": (248, 248, 248),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
SIZES: dict[str, tuple[int, int]] = {"small": (26, 30), "regular": (36, 44), "large": (60, 68)}

NEAR, MIDDLE, FAR = 34, 64, 94
POSITIONS: dict[str, tuple[int, int]] = {
    "on the left": (NEAR, MIDDLE),
    "on the right": (FAR, MIDDLE),
    "at the top": (MIDDLE, NEAR),
    "at the bottom": (MIDDLE, FAR),
    "in the center": (MIDDLE, MIDDLE),
    "in the top left corner": (NEAR, NEAR),
    "in the top right corner": (FAR, NEAR),
    "in the bottom left corner": (NEAR, FAR),
    "in the bottom right corner": (FAR, FAR),
}
RELATIONS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "left of": ((NEAR, MIDDLE), (FAR, MIDDLE)),
    "right of": ((FAR, MIDDLE), (NEAR, MIDDLE)),
    "above": ((MIDDLE, NEAR), (MIDDLE, FAR)),
    "below": ((MIDDLE, FAR), (MIDDLE, NEAR)),
}
COUNTS: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((NEAR, MIDDLE), (FAR, MIDDLE)),
    3: ((MIDDLE, NEAR), (NEAR, FAR), (FAR, FAR)),
    4: ((NEAR, NEAR), (FAR, NEAR), (NEAR, FAR), (FAR, FAR)),
}
TASKS = {"single": 0.35, "count": 0.2, "two": 0.15, "relation": 0.3}
JITTER = 4
FREE_JITTER = 10


@dataclass(frozen=True)
class Thing:
    """One object; (x, y) is its centre and `extent` the side of its square, in pixels."""

    shape: str
    color: str
    size: str
    x: int
    y: int
    extent: int


@dataclass(frozen=True)
class Scene:
    """What a picture shows and which of it the caption says."""

    task: str
    background: str
    background_named: bool
    things: tuple[Thing, ...]
    position: str | None = None
    relation: str | None = None

    def key(self) -> str:
        """The scene's meaning without jitter: scenes with equal keys have equal captions."""
        things = [f"{t.size} {t.color} {t.shape}" for t in self.things]
        background = self.background if self.background_named else "any"
        parts = [self.task, background, *things, self.position or "", self.relation or ""]
        return "|".join(parts)

    @property
    def held_out(self) -> bool:
        """True for the eighth of all meanings that training never sees."""
        return zlib.crc32(self.key().encode()) % 8 == 0


def sample_scene(
    rng: random.Random, task: str | None = None, held_out: bool | None = None
) -> Scene:
    """Draw a scene of `task` (any, by TASKS, if None) from the held-out or the training meanings.

    With `held_out=None` both kinds are drawn.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    while True:
        chosen = task or rng.choices(list(TASKS), list(TASKS.values()))[0]
        scene = SAMPLERS[chosen](rng)
        if held_out is None or scene.held_out == held_out:
            return scene


def sample_single(rng: random.Random) -> Scene:
    color, shape = rng.choice(list(COLORS)), rng.choice(SHAPES)
    size = rng.choices(list(SIZES), [0.25, 0.5, 0.25])[0]
    position = rng.choice(list(POSITIONS)) if rng.random() < 0.5 else None
    center = POSITIONS[position] if position else (MIDDLE, MIDDLE)
    thing = place(rng, shape, color, size, center, JITTER if position else FREE_JITTER)
    return Scene("single", *sample_background(rng, [color]), (thing,), position=position)


def sample_count(rng: random.Random) -> Scene:
    color, shape = rng.choice(list(COLORS)), rng.choice(SHAPES)
    centers = COUNTS[rng.choice(list(COUNTS))]
    things = tuple(place(rng, shape, color, "regular", center) for center in centers)
    return Scene("count", *sample_background(rng, [color]), things)


def sample_two(rng: random.Random) -> Scene:
    things = sample_pair(rng, RELATIONS["left of"])
    return Scene("two", *sample_background(rng, [t.color for t in things]), things)


def sample_relation(rng: random.Random) -> Scene:
    relation = rng.choice(list(RELATIONS))
    things = sample_pair(rng, RELATIONS[relation])
    background = sample_background(rng, [t.color for t in things])
    return Scene("relation", *background, things, relation=relation)


def sample_pair(
    rng: random.Random, centers: tuple[tuple[int, int], tuple[int, int]]
) -> tuple[Thing, Thing]:
    """Two things that differ in shape or colour, at the two centres."""
    looks = [(shape, color) for shape in SHAPES for color in COLORS]
    first, second = rng.sample(looks, 2)
    return place(rng, *first, "regular", centers[0]), place(rng, *second, "regular", centers[1])


def sample_background(rng: random.Random, taken: list[str]) -> tuple[str, bool]:
    """A background colour no object has, and whether the caption names it.

    An unnamed background is a choice the prompt leaves to us: the first plain colour still free.
    """
    if rng.random() < 0.2:
        return next(color for color in ("white", "black", "blue") if color not in taken), False
    return rng.choice([color for color in COLORS if color not in taken]), True


def place(
    rng: random.Random,
    shape: str,
    color: str,
    size: str,
    center: tuple[int, int],
    jitter: int = JITTER,
) -> Thing:
    """A thing near `center`, wholly inside the picture."""
    extent = rng.randint(*SIZES[size])
    low, high = extent // 2 + 1, RESOLUTION - extent // 2 - 2
    x, y = (min(max(c + rng.randint(-jitter, jitter), low), high) for c in center)
    return Thing(shape, color, size, x, y, extent)


SAMPLERS: dict[str, Callable[[random.Random], Scene]] = {
    "single": sample_single,
    "count": sample_count,
    "two": sample_two,
    "relation": sample_relation,
}
