"""What can be asked of a drawn picture, with the answers of its prompt and of the checker.

Questions are the recipe's, in its plain wording, from the point of view of the prompt: they can be
asked of pictures that show something else, where the checker and a model are needed most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mindsd.assets.recipes.checker import Reading
from mindsd.assets.recipes.descriptions import (
    NUMBERS,
    Group,
    describe,
    groups,
    look,
    plural,
    position,
    relation,
)
from mindsd.assets.recipes.questions import SIZE_NAMES
from mindsd.assets.recipes.scenes import Scene, Thing
from mindsd.assets.recipes.vlm_evaluate import as_scene
from mindsd.assets.recipes.wordings import WORDINGS

KINDS = ("background", "color", "shape", "count", "size", "where", "relation", "caption")


@dataclass(frozen=True)
class Question:
    """One question about a picture.

    Attributes:
        wanted: the answer by the prompt; None where it leaves that open.
        seen: the answer by what the checker reads; None where that is not one answer.
    """

    kind: str
    text: str
    wanted: str | None
    seen: str | None


def ask_about(scene: Scene, reading: Reading) -> Iterator[Question]:
    """What can be asked of a picture, from the point of view of its prompt."""
    read = as_scene(reading)
    wanted = scene.background if scene.background_named else None
    yield Question("background", _word("background"), wanted, reading.background)
    number = NUMBERS[len(read.things)] if len(read.things) < len(NUMBERS) else "more"
    yield Question("count", _word("count", things="things"), NUMBERS[len(scene.things)], number)
    for group in groups(scene):
        yield from _ask_looks(scene, group, read)
    if scene.task == "single":
        yield from _ask_place(scene, read)
    if scene.relation is not None:
        yield _ask_relation(scene, scene.relation, read)
    if 1 <= len(read.things) < len(NUMBERS) and (len(groups(read)) == 1 or len(read.things) == 2):
        yield Question("caption", _word("caption"), None, describe(read))


def _ask_looks(scene: Scene, group: Group, read: Scene) -> Iterator[Question]:
    """The colour of what is told by its shape, and the shape of what is told by its colour."""
    color, shape = group.first.color, group.first.shape
    others = [other.first for other in groups(scene) if other != group]
    if all(other.shape != shape for other in others):
        colors = {thing.color for thing in read.things if thing.shape == shape}
        text = _word("color", be=group.be, thing=group.called(shape))
        yield Question("color", text, color, _only(colors))
    if all(other.color != color for other in others):
        shapes = {_counted(group, own.shape) for own in read.things if own.color == color}
        text = _word("shape", be=group.be, thing=group.called(f"{color} thing"))
        yield Question("shape", text, _counted(group, shape), _only(shapes))


def _ask_place(scene: Scene, read: Scene) -> Iterator[Question]:
    """How large a single thing is, and where."""
    [thing], alone = scene.things, len(read.things) == 1
    called = f"the {thing.shape}"
    size = SIZE_NAMES[read.things[0].size] if alone else None
    yield Question("size", _word("size", thing=called), SIZE_NAMES[thing.size], size)
    place = position(read.things[0]) if alone else None
    yield Question("where", _word("where", thing=called), scene.position, place)


def _ask_relation(scene: Scene, how: str, read: Scene) -> Question:
    first, second = scene.things
    text = _word("relation", direction=how, thing=f"the {second.color} {second.shape}")
    return Question("relation", text, look(first), _found(read, how, second))


def _found(read: Scene, how: str, wanted: Thing) -> str | None:
    """What stands so to the one thing that looks like this; None where that is not one answer."""
    at = [place for place, own in enumerate(read.things) if look(own) == look(wanted)]
    if len(at) != 1:
        return None
    it, others = read.things[at[0]], [own for i, own in enumerate(read.things) if i != at[0]]
    there = {look(own) for own in others if relation(own, it) == how}
    return _only(there) if there else "nothing"


def _only(found: set[str]) -> str | None:
    return next(iter(found)) if len(found) == 1 else None


def _counted(group: Group, noun: str) -> str:
    return noun if len(group.things) == 1 else plural(noun)


def _word(wording: str, **gaps: str) -> str:
    return WORDINGS[wording][0].format(**gaps)
