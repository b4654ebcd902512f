"""The checker reads the renderer's pictures right, and catches each kind of wrong picture."""

import dataclasses
import random

import numpy as np
import pytest

from mindsd.assets.recipes.checker import check, read_picture
from mindsd.assets.recipes.components import connected_components
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.scenes import (
    COLORS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    TASKS,
    Scene,
    Thing,
    sample_scene,
)


def single(shape="star", color="red", size="regular", x=64, y=64, **scene) -> Scene:
    extent = SIZES[size][1]
    thing = Thing(shape, color, size, x, y, extent)
    return Scene("single", scene.pop("background", "blue"), True, (thing,), **scene)


def pair(relation: str, colors=("red", "green"), shapes=("circle", "square")) -> Scene:
    places = RELATIONS[relation]
    things = tuple(
        Thing(s, c, "regular", x, y, 40)
        for s, c, (x, y) in zip(shapes, colors, places, strict=True)
    )
    return Scene("relation", "white", True, things, relation=relation)


def paint(scene: Scene) -> np.ndarray:
    return render(scene, random.Random(0))


@pytest.mark.parametrize("task", TASKS)
def test_renderer_satisfies_the_checker(task):
    rng = random.Random(3)
    for _ in range(25):
        scene = sample_scene(rng, task)
        answers = check(scene, render(scene, rng))
        assert answers["all"], (scene, answers)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_every_shape_in_every_size_is_read(shape, size):
    (seen,) = read_picture(paint(single(shape, size=size))).things
    assert (seen.shape, seen.color, seen.size) == (shape, "red", size)


@pytest.mark.parametrize("color", COLORS)
def test_every_color_is_read_as_object_and_as_background(color):
    other = "white" if color != "white" else "black"
    assert read_picture(paint(single(color=color, background=other))).things[0].color == color
    assert read_picture(paint(single(color=other, background=color))).background == color


WRONG = {
    "background": single(background="green"),
    "color": single(color="yellow"),
    "shape": single("heart"),
    "size": single(size="small"),
}


@pytest.mark.parametrize("attribute", WRONG)
def test_one_wrong_attribute_is_caught(attribute):
    answers = check(single(), paint(WRONG[attribute]))
    assert not answers[attribute] and not answers["all"]
    assert answers["count"]


def test_too_many_and_too_few_are_caught():
    two = dataclasses.replace(pair("above"), task="two", relation=None)
    one = dataclasses.replace(two, things=two.things[:1])
    for wanted, shown in ((one, two), (two, one)):
        assert not check(wanted, paint(shown))["count"]


@pytest.mark.parametrize("position", POSITIONS)
def test_wrong_position_is_caught(position):
    for shown, (x, y) in POSITIONS.items():
        picture = paint(single(x=x, y=y))
        assert check(single(position=position), picture)["position"] == (shown == position)


@pytest.mark.parametrize("relation", RELATIONS)
def test_wrong_relation_is_caught(relation):
    for shown in RELATIONS:
        assert check(pair(relation), paint(pair(shown)))["relation"] == (shown == relation)


def test_swapped_colors_are_caught():
    answers = check(pair("above"), paint(pair("above", colors=("green", "red"))))
    assert answers["color"] and answers["shape"]
    assert not answers["binding"] and not answers["relation"] and not answers["all"]


def test_a_smear_is_no_shape():
    picture = paint(single())
    picture[40:44, 10:120] = COLORS["red"]
    assert not check(single(), picture)["shape"]


def test_components_joined_late_are_one():
    mask = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
    assert sorted(int(part.sum()) for part in connected_components(mask)) == [1, 7]
