"""Scenes, their captions, and the tokenizer that reads them."""

import random

import pytest

from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.scenes import RESOLUTION, TASKS, sample_scene
from mindsd.assets.recipes.text_encoder import NAMES, attributes, layout, token_ids
from mindsd.assets.recipes.tokenizer import TOKENS, build_tokenizer

EXAMPLES = (
    "a red circle above a blue square",
    "two green stars",
    "a large yellow star on a blue background",
    "a white heart in the top left corner",
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_the_same_seed_draws_the_same_scene():
    assert sample_scene(random.Random(5)) == sample_scene(random.Random(5))


@pytest.mark.parametrize("task", TASKS)
def test_things_lie_inside_and_differ_from_the_background(task):
    rng = random.Random(1)
    for _ in range(50):
        scene = sample_scene(rng, task)
        assert scene.task == task
        for thing in scene.things:
            assert thing.color != scene.background
            half = thing.extent / 2
            assert half <= thing.x <= RESOLUTION - half and half <= thing.y <= RESOLUTION - half


def test_held_out_meanings_are_never_trained_on():
    rng = random.Random(2)
    trained = {sample_scene(rng, held_out=False).key() for _ in range(3000)}
    tested = {sample_scene(rng, held_out=True).key() for _ in range(300)}
    assert not trained & tested


def test_unknown_task_is_refused_by_name():
    with pytest.raises(ValueError, match="single, count, two, relation.*'many'"):
        sample_scene(random.Random(0), "many")


def test_the_grammar_says_the_published_examples():
    rng, left = random.Random(0), set(EXAMPLES)
    for _ in range(200_000):
        left.discard(caption(sample_scene(rng)))
        if not left:
            return
    pytest.fail(f"never said: {left}")


def test_captions_fit_the_tokenizer_and_come_back(tokenizer):
    rng = random.Random(4)
    for _ in range(200):
        text = caption(sample_scene(rng), rng)
        ids = tokenizer(text).input_ids
        assert len(ids) <= TOKENS
        spelled = tokenizer.decode(ids, skip_special_tokens=True)
        assert spelled.replace(" ", "") == text.replace(" ", "")


def test_unknown_words_are_spelled_not_dropped(tokenizer):
    ids = tokenizer("Élan! 7").input_ids
    assert tokenizer.eos_token_id not in ids[:-1]


def test_token_ids_are_padded_to_the_full_length(tokenizer):
    assert token_ids(tokenizer, ["a red circle", ""]).shape == (2, TOKENS)


def test_attributes_and_layout_tell_the_scene():
    scene = sample_scene(random.Random(6), "relation")
    answers = dict(zip(NAMES, attributes(scene), strict=True))
    assert NAMES["relation"][answers["relation"]] == scene.relation
    assert NAMES["second shape"][answers["second shape"]] == scene.things[1].shape
    colors, shapes = layout(scene)
    assert colors.shape == shapes.shape == (8, 8)
    assert len(shapes[shapes > 0].unique()) == len({t.shape for t in scene.things})
