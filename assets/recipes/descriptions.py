"""What can be said about a scene and the things in it, from geometry alone.

Unlike captions.py, which tells what a scene was drawn to show, `describe` tells every scene in one
way only.
"""

from dataclasses import dataclass

from .captions import PLURALS, noun_phrase, with_article
from .checker import FAR_FROM, NEAR_BELOW
from .scenes import RESOLUTION, Scene, Thing

NUMBERS = ("zero", "one", "two", "three", "four")
ANY_THING = ("thing", "object", "shape")
PLACES = (
    ("in the top left corner", "at the top", "in the top right corner"),
    ("on the left", "in the center", "on the right"),
    ("in the bottom left corner", "at the bottom", "in the bottom right corner"),
)
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Group:
    """All things of one look: one thing, or the equal things of a counting scene."""

    things: tuple[Thing, ...]

    @property
    def first(self) -> Thing:
        return self.things[0]

    @property
    def be(self) -> str:
        return "is" if len(self.things) == 1 else "are"

    def called(self, noun: str) -> str:
        """`noun` in the number of the group, with "the" before it."""
        return "the " + (noun if len(self.things) == 1 else plural(noun))


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def groups(scene: Scene) -> list[Group]:
    looks: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        looks.setdefault((thing.color, thing.shape), []).append(thing)
    return [Group(tuple(things)) for things in looks.values()]


def position(thing: Thing) -> str:
    """The name of the ninth of the picture that the thing's centre is in."""

    def band(coordinate: int) -> int:
        share = coordinate / RESOLUTION
        return (share >= NEAR_BELOW) + (share >= FAR_FROM)

    return PLACES[band(thing.y)][band(thing.x)]


def relation(first: Thing, second: Thing) -> str:
    """How `first` stands to `second`, by the longer of their two distances."""
    right, down = second.x - first.x, second.y - first.y
    if abs(right) > abs(down):
        return "left of" if right > 0 else "right of"
    return "above" if down > 0 else "below"


def describe(scene: Scene) -> str:
    """The scene's one canonical caption; of two things the left or upper one comes first."""
    background = with_article(scene.background + " background")
    found = groups(scene)
    first = scene.things[0]
    if len(scene.things) == 1:
        return f"{noun_phrase(first)} {position(first)} on {background}"
    if len(found) == 1:
        return f"{counted(found[0])} on {background}"
    second = scene.things[1]
    how = relation(first, second)
    if how in ("right of", "below"):
        first, second, how = second, first, OPPOSITES[how]
    return f"{noun_phrase(first)} {how} {noun_phrase(second)} on {background}"


def counted(group: Group) -> str:
    """ "three red stars"."""
    number, thing = len(group.things), group.first
    noun = thing.shape if number == 1 else plural(thing.shape)
    return f"{NUMBERS[number]} {thing.color} {noun}"


def look(thing: Thing) -> str:
    return with_article(f"{thing.color} {thing.shape}")


def names(scene: Scene, group: Group, hide: str = "") -> list[str]:
    """Phrases that mean this group only; none says its colour or shape if `hide` is that word."""
    others = [g.first for g in groups(scene) if g != group]
    color, shape = group.first.color, group.first.shape
    found = []
    if hide != "shape" and all(other.shape != shape for other in others):
        found.append(group.called(shape))
    if hide == "":
        found.append(group.called(f"{color} {shape}"))
    if hide != "color" and all(other.color != color for other in others):
        found += [group.called(f"{color} {word}") for word in ANY_THING[: 3 - (hide == "shape")]]
    if others:
        found.append(f"the thing {position(group.first)}")
        return found
    alone = [group.called(word) for word in ANY_THING[: 3 - (hide == "shape")]]
    return [*found, *alone, "it" if group.be == "is" else "they"]
