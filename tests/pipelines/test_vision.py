"""What a model sees: pictures by their content, as many placeholders as features, no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.image_cache import ImageCache, SeenImage
from mindsd.pipelines.prompt import read_prompt
from mindsd.pipelines.vision import ReadImage, Vision
from mindsd.pipelines.vision_chat import shown
from tests.zoo.vision import colours, vision_case, vision_names

A, B = colours(1, 40, 32), colours(2, 24, 48)
BYTES = 2**20
# Words of every family that stand for pictures, or for one row of one.
WORDS = {
    name: {vision_case(name).processor.image_token, vision_case(name).tokenizer.image_token}
    for name in ("qwen3_vl", "gemma3", "smolvlm")
}


def eyes(name: str) -> Vision:
    case = vision_case(name)
    return Vision(case.model, case.processor, ImageCache(BYTES))


@pytest.fixture(params=vision_names())
def vision(request) -> Iterator[Vision]:
    with torch.inference_mode():
        yield eyes(request.param)


def prompt(vision: Vision, *pictures: Any, said: str = "What is it?") -> Any:
    return read_prompt(vision.processor.tokenizer, [shown(pictures, said)], vision=vision)


@pytest.mark.parametrize("name", [name for name in vision_names() if name != "paligemma"])
def test_a_prompt_is_what_the_processor_makes_of_it(name):
    """But for PaliGemma's, which writes tokens of its own and is read by itself."""
    vision = eyes(name)
    read = prompt(vision, A, B)
    own = vision.own_inputs(read.text, [A, B], add_special_tokens=False)
    assert own["input_ids"][0].tolist() == read.ids


def test_features_stand_where_the_placeholders_are(vision):
    read = prompt(vision, A, B)
    images = [vision.see(image) for image in read.images]
    found = vision.placeholders(read.ids, images)
    assert list(found.places) == [i for i, id in enumerate(read.ids) if id == vision.token_id]
    assert len(found.places) == sum(image.tokens for image in images)
    assert torch.equal(found.features[0], torch.cat([image.features[0] for image in images]))
    texts = [i for i in range(len(read.ids)) if i not in found.places]
    assert [found.names[i] for i in texts] == [read.ids[i] for i in texts]
    assert all(found.names[i] < 0 for i in found.places)
    assert (found.rotary is not None) is vision.counts_axes
    if found.rotary is not None:
        assert found.rotary.shape == (3, len(read.ids))
        assert int(found.rotary.max()) + 1 == len(read.ids) + found.delta


def test_what_the_tower_sees_is_what_the_model_sees(vision):
    """Picture by picture and without its text, against the model's own way."""
    read = prompt(vision, A)
    inputs = vision.own_inputs(read.text, [A], add_special_tokens=False)
    pixels = inputs.pop("pixel_values")
    takes = {name: inputs[name] for name in inputs if name in vision.tower._takes}
    expected = vision.model.get_image_features(pixels, return_dict=True, **takes).pooler_output
    rows = torch.cat([own.reshape(-1, own.shape[-1]) for own in expected])
    assert (vision.see(read.images[0]).features[0] - rows).abs().max() <= 1e-5


def test_a_picture_is_known_by_its_content(vision, tmp_path):
    A.save(tmp_path / "a.png")
    first = vision.read(A)
    assert isinstance(first, ReadImage)
    seen = vision.see(first)
    for same in (A.copy(), A.convert("RGBA"), tmp_path / "a.png"):
        assert vision.read(same) is seen
    assert vision.see(first) is seen  # another request has seen it meanwhile
    assert vision.cache.counts["images"] == 1 and vision.cache.hits == 3


def test_keys_differ_by_content_and_size():
    vision = eyes("qwen3_vl")
    other = A.copy()
    other.putpixel((3, 3), (0, 0, 0))
    turned = Image.frombytes("RGB", (32, 40), A.tobytes())  # the same bytes
    keys = [vision.read(picture).key for picture in (A, B, other, turned, A.copy())]
    assert len(set(keys)) == 4 and keys[0] == keys[-1]
    assert all(len(key) == 16 for key in keys)


@pytest.mark.parametrize(("name", "word"), [(n, word) for n in WORDS for word in sorted(WORDS[n])])
def test_a_placeholder_cannot_be_said(name, word):
    vision, ids = eyes(name), vision_case(name).tokenizer(word)["input_ids"]
    tokenizer = vision.processor.tokenizer
    asked: list[Any] = [[{"role": "user", "content": f"what {word} is"}], [shown(A, f"a {word}")]]
    asked.append([{"role": "assistant", "content": word}, shown(A, "What?")])
    for one in asked:
        with pytest.raises(RequestError, match="cannot be said"):
            read_prompt(tokenizer, one, vision=vision)
    if vision.token_id in ids:
        with pytest.raises(RequestError, match="cannot be said"):
            read_prompt(tokenizer, f"what {word} is", vision=vision, chat=False)
    with pytest.raises(RequestError, match="cannot be said"):
        read_prompt(tokenizer, "Hello", system=word, vision=vision)


def test_raw_tokens_with_a_placeholder_are_refused(vision):
    tokenizer = vision.processor.tokenizer
    with pytest.raises(RequestError, match=f"token {vision.token_id} cannot be said"):
        read_prompt(tokenizer, [5, vision.token_id, 6], vision=vision)
    assert read_prompt(tokenizer, [1, 2], vision=vision).ids == [1, 2]


def test_a_template_that_shows_no_picture_is_told_apart():
    case, vision = vision_case("qwen3_vl"), eyes("qwen3_vl")

    class Blind:
        chat_template = "blind"

        def apply_chat_template(self, messages: Any, **how: Any) -> str:
            return "user: what is it?"

        def __call__(self, text: str, **how: Any) -> Any:
            return case.tokenizer(text, **how)

    with pytest.raises(RequestError, match="0 places for 1 pictures"):
        read_prompt(Blind(), [shown(A, "What?")], vision=vision)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 900), (300, 1)])
def test_strange_sizes_are_read_or_refused_in_one_sentence(vision, size):
    picture = Image.new("RGB", size, "red")
    try:
        read = prompt(vision, picture)
    except RequestError as error:
        told = str(error)
        assert f"{size[0]}x{size[1]}" in told and ("refuses" in told or "too narrow" in told)
        assert len(told.splitlines()) == 1
    else:
        assert len(vision.see(read.images[0]).features[0]) == read.images[0].tokens


def test_a_picture_that_would_grow_beyond_memory_is_refused_before_it_is_processed(monkeypatch):
    vision = eyes("llava")
    monkeypatch.setattr(vision, "_process", lambda *given, **how: pytest.fail("processed"))
    with pytest.raises(RequestError, match="1600x1 is too narrow: at most 200 times"):
        vision.read(Image.new("RGB", (1600, 1)))


def test_what_the_processor_refuses_is_told_in_one_sentence(monkeypatch):
    vision = eyes("qwen3_vl")

    def refuse(**how: Any) -> Any:
        raise ValueError("no such ratio\nat all")

    monkeypatch.setattr(vision, "processor", refuse)
    with pytest.raises(RequestError, match="refuses 90x20: no such ratio$"):
        vision.read(Image.new("RGB", (90, 20)))


def test_memory_that_runs_out_is_no_refusal(monkeypatch):
    vision = eyes("qwen3_vl")

    def burst(**how: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(vision, "processor", burst)
    with pytest.raises(MemoryError):
        vision.read(Image.new("RGB", (90, 20)))


def test_a_tower_of_another_model_is_told_apart(monkeypatch):
    vision = eyes("llava")
    image = vision.read(A)
    monkeypatch.setattr(vision.tower, "forward", lambda *given: (torch.zeros(1, 3, 8),))
    with pytest.raises(ModelError, match="gave 3 rows for a picture of 16 tokens"):
        vision.see(image)
    assert vision.cache.counts["images"] == 0


def test_pictures_that_do_not_fit_into_the_cache_are_seen_all_the_same():
    case = vision_case("llava")
    vision = Vision(case.model, case.processor, ImageCache(0))
    with torch.inference_mode():
        first, second = vision.see(vision.read(A)), vision.see(vision.read(A))
    assert isinstance(first, SeenImage) and first is not second
    assert torch.equal(first.features[0], second.features[0])
