"""Pictures are counted as they are read, and go through the processor once."""

import gc

from mindsd.app.glance import Glance
from mindsd.pipelines.image_cache import ImageCache, SeenImage
from mindsd.pipelines.prompt import prompt_tokens
from mindsd.pipelines.vision import Vision
from mindsd.pipelines.vision_chat import shown
from tests.zoo.vision import colours, vision_case


def eyes():
    case = vision_case("qwen3_vl")
    return Vision(case.model, case.processor, ImageCache(2**20))


def test_the_same_tokens():
    vision = eyes()
    tokenizer, messages = vision.processor.tokenizer, [shown([colours(0, 32, 16)] * 2, "what?")]
    tokens = prompt_tokens(tokenizer, messages, vision=vision)
    assert prompt_tokens(tokenizer, messages, vision=Glance(vision)) == tokens
    assert tokens.count(vision.token_id) > 4


def test_each_is_read_once():
    vision, picture = eyes(), colours(0, 32, 16)
    glance = Glance(vision)
    first = glance.read(picture)
    assert all(glance.read(picture) is first for _ in range(3)) and vision.cache.misses == 1
    other = glance.read(colours(0, 32, 16))  # as it looks, but another one
    assert other is not first and other.key == first.key and vision.cache.misses == 2
    assert isinstance(first, SeenImage) and not first.features


def test_an_id_that_is_given_again():
    glance, picture = Glance(eyes()), colours(0, 32, 16)
    number, first = id(picture), glance.read(picture)
    del picture
    gc.collect()
    later = colours(1, 16, 16)
    glance._known[id(later)] = glance._known[number]
    assert glance.read(later).key != first.key
