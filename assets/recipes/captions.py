"""Telling a scene in words."""

import random

from .scenes import Scene, Thing

NUMBERS = {2: "two", 3: "three", 4: "four"}
PLURALS = {"cross": "crosses"}
WORDINGS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under"),
}
OPENINGS = ("a photo of ", "an image of ", "a picture of ", "a drawing of ")


def caption(scene: Scene, rng: random.Random | None = None) -> str:
    """The scene as one English phrase; `rng` varies the wording, without it the plain one."""
    said = subject(scene, rng)
    if scene.background_named:
        said += background(scene.background, rng)
    if rng is not None and rng.random() < 0.15:
        said = rng.choice(OPENINGS) + said
    return said


def subject(scene: Scene, rng: random.Random | None) -> str:
    first = scene.things[0]
    if scene.task == "single":
        return " ".join(filter(None, [noun_phrase(first), scene.position]))
    if scene.task == "count":
        plural = PLURALS.get(first.shape, first.shape + "s")
        return f"{NUMBERS[len(scene.things)]} {first.color} {plural}"
    joint = "and"
    if scene.relation is not None:
        joint = rng.choice(WORDINGS[scene.relation]) if rng else scene.relation
    return f"{noun_phrase(first)} {joint} {noun_phrase(scene.things[1])}"


def background(color: str, rng: random.Random | None) -> str:
    phrase = with_article(f"{color} background")
    ways = (f" on {phrase}", f" on {phrase}", f" with {phrase}", f", {color} background")
    return rng.choice(ways) if rng else ways[0]


def noun_phrase(thing: Thing) -> str:
    size = "" if thing.size == "regular" else thing.size + " "
    return with_article(f"{size}{thing.color} {thing.shape}")


def with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun
