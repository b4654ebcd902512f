"""Every question has one right answer, and it is the one that is given."""

import itertools
import random
from dataclasses import replace

import pytest

from mindsd.assets.recipes.checker import is_at, read_picture, stand
from mindsd.assets.recipes.descriptions import OPPOSITES, describe, groups, position, relation
from mindsd.assets.recipes.questions import KINDS, SHARES, Question, choose_questions, questions
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.scenes import COUNTS, POSITIONS, RELATIONS, Scene, Thing, sample_scene
from mindsd.assets.recipes.vlm_evaluate import as_scene

RED_CIRCLE = Thing("circle", "red", "large", 34, 34, 64)
ONE = Scene("single", "green", False, (RED_CIRCLE,))
PAIR = Scene(
    "relation",
    "white",
    True,
    (Thing("circle", "red", "regular", 94, 64, 40), Thing("square", "blue", "regular", 34, 64, 40)),
)
UPRIGHT = Scene(
    "relation",
    "pink",
    True,
    (Thing("star", "red", "regular", 64, 94, 40), Thing("star", "orange", "regular", 64, 34, 40)),
)
STARS = Scene(
    "count", "white", True, tuple(Thing("star", "red", "regular", x, y, 40) for x, y in COUNTS[3])
)
WORDED = [
    (ONE, "Describe the image.", "a large red circle in the top left corner on a green background"),
    (ONE, "What color is the background?", "green"),
    (ONE, "How large is the circle?", "large"),
    (ONE, "Where is the circle?", "in the top left corner"),
    (ONE, "What is in the top left corner?", "a red circle"),
    (ONE, "What color is it?", "red"),
    (ONE, "What shape is the red thing?", "circle"),
    (ONE, "How many circles are there?", "one"),
    (ONE, "How many stars are there?", "zero"),
    (ONE, "What is left of the circle?", "nothing"),
    (ONE, "Is there a red circle?", "yes"),
    (ONE, "Is there a red star?", "no"),
    (ONE, "How many circles are there, and what color?", "one red circle"),
    (PAIR, "Describe the image.", "a blue square left of a red circle on a white background"),
    (PAIR, "What is left of the red circle?", "a blue square"),
    (PAIR, "What is left of the blue square?", "nothing"),
    (PAIR, "What is above the blue square?", "nothing"),
    (PAIR, "Where is the square relative to the circle?", "left of it"),
    (PAIR, "Is the red circle right of the blue square?", "yes"),
    (PAIR, "Is the red circle left of the blue square?", "no"),
    (PAIR, "Is there a blue circle?", "no"),
    (PAIR, "Where is the square?", "on the left"),
    (PAIR, "How large is the square?", "medium"),
    (PAIR, "What color is the thing on the right?", "red"),
    (UPRIGHT, "Describe the image.", "an orange star above a red star on a pink background"),
    (UPRIGHT, "How many stars are there?", "two"),
    (UPRIGHT, "How many red stars are there?", "one"),
    (UPRIGHT, "What is below the orange star?", "a red star"),
    (STARS, "Describe the image.", "three red stars on a white background"),
    (STARS, "What color are the stars?", "red"),
    (STARS, "What shape are the red things?", "stars"),
    (STARS, "How many stars are there, and what color?", "three red stars"),
    (STARS, "What color are they and what color is the background?", "red and white"),
]
MOVES = list(itertools.product((0, -1, 1), repeat=2))


def all_plain(scene: Scene, draws: int = 600) -> list[Question]:
    """What is asked plainly about a scene over many draws."""
    return [q for seed in range(draws) for q in questions(scene, random.Random(seed), plain=True)]


PLAIN = {id(scene): all_plain(scene) for scene in (ONE, PAIR, UPRIGHT, STARS)}


@pytest.mark.parametrize(("scene", "text", "answer"), WORDED, ids=[text for _, text, _ in WORDED])
def test_answer_of_a_hand_made_scene(scene, text, answer):
    assert {q.answer for q in PLAIN[id(scene)] if q.text == text} == {answer}


@pytest.mark.parametrize("scene", [ONE, PAIR, UPRIGHT, STARS])
def test_the_same_question_never_has_two_answers(scene):
    answers: dict[str, str] = {}
    for question in PLAIN[id(scene)]:
        assert answers.setdefault(question.text, question.answer) == question.answer


def test_ambiguous_questions_are_not_asked():
    texts = {q.text for q in PLAIN[id(UPRIGHT)]}
    assert "What color is the star?" not in texts
    assert not any("it?" in text.split() for text in texts)
    assert not any(text.startswith("How many stars are there, and") for text in texts)
    assert not any(text.startswith(("Where", "How large")) for text in map(str, PLAIN[id(STARS)]))


def test_questions_of_the_picture_are_those_of_the_scene():
    """What checker.py reads in the picture leads to the same questions and answers."""
    rng = random.Random(4)
    same = 0
    for seed in range(120):
        scene = sample_scene(rng)
        ordered = tuple(sorted(scene.things, key=lambda t: (t.y, t.x)))
        told = Scene(scene.task, scene.background, True, ordered)
        seen = as_scene(read_picture(render(scene, rng)))
        # Things on one level may be read in another order, and a centre on a border beyond it.
        if list(map(summary, seen.things)) == list(map(summary, ordered)):
            expected = questions(told, random.Random(seed))
            assert questions(seen, random.Random(seed)) == expected
            same += 1
    assert same > 100


def summary(thing: Thing) -> tuple[str, str, str]:
    return thing.color, thing.shape, position(thing)


def test_position_and_relation_agree_with_the_checker():
    rng = random.Random(5)
    for _ in range(100):
        scene = sample_scene(rng)
        seen = read_picture(render(scene, rng)).things
        for thing in scene.things:
            nearest = min(seen, key=lambda s: abs(s.x - thing.x) + abs(s.y - thing.y))
            # Centres read from pixels may be a pixel off, which matters on a border.
            moved = [replace(nearest, x=nearest.x + d, y=nearest.y + e) for d, e in MOVES]
            assert any(is_at(seen_thing, position(thing)) for seen_thing in moved)
        if len(groups(scene)) == 2:
            first, second = as_scene(read_picture(render(scene, rng))).things
            pair = sorted(seen, key=lambda s: (round(s.y), round(s.x)))
            holds = [r for r in RELATIONS if stand(pair[0], r, pair[1])]
            assert holds == [relation(first, second)]


def test_description_agrees_with_the_caption_of_the_scene():
    rng = random.Random(6)
    for _ in range(200):
        scene = sample_scene(rng)
        told = describe(scene)
        assert told.endswith(f"{scene.background} background")
        assert all(thing.color in told and thing.shape in told for thing in scene.things)
        if scene.position is not None:
            assert scene.position in told
        if scene.relation in ("left of", "above"):
            assert f" {scene.relation} " in told
        elif scene.relation is not None:
            assert f" {OPPOSITES[scene.relation]} " in told


def test_answers_are_lower_case_and_short():
    rng = random.Random(7)
    for _ in range(100):
        for kind, text, answer in questions(sample_scene(rng), rng):
            assert answer == answer.lower().strip(" .?") and 0 < len(answer.split()) <= 15
            assert kind in KINDS and "{" not in text and "of they" not in text


def test_half_of_the_yes_no_questions_are_no():
    rng = random.Random(8)
    asked = [q for _ in range(200) for q in questions(sample_scene(rng), rng)]
    answers = [q.answer for q in asked if q.kind == "yes-no"]
    assert 0.45 < answers.count("no") / len(answers) < 0.55


def test_wording_varies_and_plain_wording_does_not():
    rng = random.Random(9)
    varied = {q.text for _ in range(60) for q in questions(ONE, rng) if q.kind == "background"}
    assert len(varied) > 10
    assert any("colour" in text for text in varied) and any("color" in text for text in varied)
    assert any(text[0].islower() for text in varied) and any(text[-1] != "?" for text in varied)
    assert {q.text for q in PLAIN[id(ONE)] if q.kind == "background"} == {
        "What color is the background?"
    }


@pytest.mark.parametrize("number", [1, 7, 12])
def test_chosen_questions_differ(number):
    rng = random.Random(10)
    for _ in range(30):
        asked = choose_questions(sample_scene(rng), rng, number)
        assert len(asked) == len(set(asked)) == number


def test_kinds_are_chosen_by_their_shares():
    rng = random.Random(12)
    asked = [q.kind for _ in range(1500) for q in choose_questions(PAIR, rng, 1)]
    assert set(asked) == set(KINDS) == set(SHARES)
    for kind, share in SHARES.items():
        expected = share / sum(SHARES.values())
        assert abs(asked.count(kind) / len(asked) - expected) < 0.04


def test_empty_places_share_no_word_with_the_taken_ones():
    rng = random.Random(11)
    for _ in range(100):
        scene = sample_scene(rng, "relation")
        for _, text, answer in questions(scene, rng, plain=True):
            if text.startswith("What is ") and answer == "nothing":
                named = [place for place in POSITIONS if text == f"What is {place}?"]
                taken = [position(thing) for thing in scene.things]
                assert not set(named) & set(taken)
