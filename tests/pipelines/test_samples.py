"""What models are judged on: two sets that share no image."""

import random

import pytest

from mindsd.assets.recipes.renderer import render
from mindsd.errors import RequestError
from mindsd.pipelines.samples import PROMPTS, prompt_samples, scene_samples


def images(samples):
    return {(prompt, samples.seed + i) for i, prompt in enumerate(samples.prompts)}


@pytest.mark.parametrize("number", [1, 5, 30])
def test_the_sets_share_no_image_and_no_prompt(number):
    for first, second in (scene_samples(number), prompt_samples(number)):
        assert len(first) == len(second) == number
        assert len(images(first) | images(second)) == 2 * number
        assert not set(first.prompts) & set(second.prompts)


def test_a_single_prompt_serves_both_with_other_seeds():
    first, second = prompt_samples(3, ["a fox"])
    assert first.prompts == second.prompts == ("a fox",) * 3
    assert len(images(first) | images(second)) == 6


def test_no_prompt_is_refused():
    with pytest.raises(RequestError, match="no prompts"):
        prompt_samples(3, [])


def test_our_prompts_differ():
    assert len(set(PROMPTS)) == len(PROMPTS) and len(PROMPTS) % 2 == 0


def test_scenes_are_read_back():
    first, second = scene_samples(4)
    assert first.scenes and second.scenes
    for number, scene in enumerate(first.scenes):
        drawn = render(scene, random.Random(number))
        assert first.right(number, drawn)
        assert not second.right(number, drawn)
