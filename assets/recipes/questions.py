"""Asking about a scene: questions with exactly one right answer, and that answer."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .captions import with_article
from .descriptions import (
    ANY_THING,
    NUMBERS,
    OPPOSITES,
    Group,
    counted,
    describe,
    groups,
    look,
    names,
    plural,
    position,
    relation,
)
from .scenes import COLORS, POSITIONS, SHAPES, Scene
from .wordings import word

SIZE_NAMES = {"small": "small", "regular": "medium", "large": "large"}
PLACE_WORDS = {"left", "right", "top", "bottom", "center"}


class Question(NamedTuple):
    """One question about a scene; `kind` is a key of KINDS."""

    kind: str
    text: str
    answer: str


Asked = tuple[str, dict[str, str], str]
"""A key of WORDINGS, what fills its gaps, and the answer."""


def ask_caption(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    yield "caption", {}, describe(scene)


def ask_background(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    yield "background", {}, scene.background


def ask_color(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for group in groups(scene):
        name = rng.choice(names(scene, group, "color"))
        yield "color", {"thing": name, "be": group.be}, group.first.color


def ask_shape(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for group in groups(scene):
        name = rng.choice(names(scene, group, "shape"))
        noun = group.called(group.first.shape).removeprefix("the ")
        yield "shape", {"thing": name, "be": group.be}, noun


def ask_count(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    shapes = [thing.shape for thing in scene.things]
    seen = rng.choice(scene.things)
    absent = rng.choice([shape for shape in SHAPES if shape not in shapes])
    for noun, number in (
        (plural(seen.shape), shapes.count(seen.shape)),
        (plural(seen.shape), shapes.count(seen.shape)),
        (plural(absent), 0),
        (f"{seen.color} {plural(seen.shape)}", sum(look(t) == look(seen) for t in scene.things)),
        (f"{seen.color} things", sum(t.color == seen.color for t in scene.things)),
        (plural(rng.choice(ANY_THING)), len(shapes)),
    ):
        yield "count", {"things": noun}, NUMBERS[number]


def ask_relation(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    found = groups(scene)
    for group in found if len(found) == 2 else []:
        other = found[1 - found.index(group)]
        how = relation(other.first, group.first)
        empty = rng.choice([direction for direction in OPPOSITES if direction != how])
        name = rng.choice(names(scene, group))
        for direction, answer in ((how, look(other.first)), (empty, "nothing")):
            yield "relation", {"direction": direction, "thing": name}, answer
    if len(scene.things) == 1 and rng.random() < 0.3:
        name = rng.choice(names(scene, found[0]))
        yield "relation", {"direction": rng.choice(list(OPPOSITES)), "thing": name}, "nothing"


def ask_side(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    found = groups(scene)
    for group in found if len(found) == 2 else []:
        other = found[1 - found.index(group)]
        slots = {"thing": rng.choice(names(scene, other)), "other": rng.choice(names(scene, group))}
        yield "side", slots, relation(other.first, group.first) + " it"


def ask_where(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    for group in placed(scene):
        place = position(group.first)
        called = [name for name in names(scene, group) if place not in name]
        yield "where", {"thing": rng.choice(called)}, place


def ask_place(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    found = placed(scene)
    for group in found:
        yield "what at", {"place": position(group.first)}, look(group.first)
    if found:
        taken = {word for group in found for word in position(group.first).split()} & PLACE_WORDS
        free = [place for place in POSITIONS if not taken & set(place.split())]
        yield "what at", {"place": rng.choice(free)}, "nothing"


def placed(scene: Scene) -> list[Group]:
    """The things that stand alone, so that each has a place of its own."""
    return [group for group in groups(scene) if len(group.things) == 1]


def ask_size(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    group = rng.choice(groups(scene))
    if len(group.things) == 1:
        name = rng.choice(names(scene, group))
        yield "size", {"thing": name}, SIZE_NAMES[group.first.size]


def ask_yes_no(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    looks = {(thing.color, thing.shape) for thing in scene.things}
    group = rng.choice(groups(scene))
    thing = group.first
    yield "is there", {"noun": look(thing)}, "yes"
    color, shape = near_miss(looks, rng)
    yield "is there", {"noun": with_article(f"{color} {shape}")}, "no"
    for shape in (thing.shape, rng.choice([s for s in SHAPES if s not in {s for _, s in looks}])):
        yield "is there", {"noun": with_article(shape)}, "yes" if shape == thing.shape else "no"
    name = rng.choice(names(scene, group, "color"))
    subject = {"thing": name, "Be": group.be.capitalize()}
    background = {"thing": "the background", "Be": "Is"}
    wrong = {other: rng.choice([c for c in COLORS if c != other]) for other in COLORS}
    for slots, right in ((subject, thing.color), (background, scene.background)):
        yield "is colored", {**slots, "color": right}, "yes"
        yield "is colored", {**slots, "color": wrong[right]}, "no"
    if len(looks) == 2:
        yield from ask_if_related(scene, rng)


def near_miss(looks: set[tuple[str, str]], rng: random.Random) -> tuple[str, str]:
    """A look that no thing has, but with the colour or the shape of one."""
    color, shape = rng.choice(sorted(looks))
    near = [(color, other) for other in SHAPES] + [(other, shape) for other in COLORS]
    swapped = [(c, s) for c, _ in sorted(looks) for _, s in sorted(looks) if (c, s) not in looks]
    missed = [pair for pair in near if pair not in looks]
    return rng.choice(swapped if swapped and rng.random() < 0.5 else missed)


def ask_if_related(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    first, second = rng.sample(groups(scene), 2)
    how = relation(first.first, second.first)
    slots = {"thing": rng.choice(names(scene, first)), "other": rng.choice(names(scene, second))}
    yield "is related", {**slots, "direction": how}, "yes"
    wrong = OPPOSITES[how] if rng.random() < 0.5 else rng.choice([d for d in OPPOSITES if d != how])
    yield "is related", {**slots, "direction": wrong}, "no"


def ask_combined(scene: Scene, rng: random.Random) -> Iterator[Asked]:
    found = groups(scene)
    shapes = [group.first.shape for group in found]
    for group in found:
        if shapes.count(group.first.shape) == 1:
            yield "combined", {"things": plural(group.first.shape)}, counted(group)
        name = rng.choice(names(scene, group, "color"))
        answer = f"{group.first.color} and {scene.background}"
        yield "both colors", {"thing": name, "be": group.be}, answer


KINDS: dict[str, Callable[[Scene, random.Random], Iterator[Asked]]] = {
    "caption": ask_caption,
    "background": ask_background,
    "color": ask_color,
    "shape": ask_shape,
    "count": ask_count,
    "relation": ask_relation,
    "side": ask_side,
    "where": ask_where,
    "place": ask_place,
    "size": ask_size,
    "yes-no": ask_yes_no,
    "combined": ask_combined,
}

SHARES = {
    "caption": 0.6,
    "background": 0.3,
    "color": 1.0,
    "shape": 0.7,
    "count": 1.0,
    "relation": 1.5,
    "side": 4.0,
    "where": 4.0,
    "place": 0.7,
    "size": 0.5,
    "yes-no": 2.0,
    "combined": 0.8,
}
"""How often each kind is trained on: what is learned last is asked most."""


def questions(scene: Scene, rng: random.Random, plain: bool = False) -> list[Question]:
    """All that can be asked about a scene, in the order of KINDS.

    `rng` chooses what is asked about and, unless `plain`, varies the wording.
    """
    found = []
    for kind, ask in KINDS.items():
        for wording, slots, answer in ask(scene, rng):
            found.append(Question(kind, word(wording, slots, rng, plain), answer))
    return found


def choose_questions(scene: Scene, rng: random.Random, number: int) -> list[Question]:
    """`number` different questions about a scene in random order, by the kinds' SHARES."""
    found = questions(scene, rng)
    many = Counter(question.kind for question in found)
    # Weighted drawing without replacement (Efraimidis and Spirakis, 2006).
    keys = {q: rng.random() ** (many[q.kind] / SHARES[q.kind]) for q in found}
    chosen = sorted(keys, key=lambda question: keys[question], reverse=True)[:number]
    rng.shuffle(chosen)
    return chosen
