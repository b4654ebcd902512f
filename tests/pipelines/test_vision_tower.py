"""The tower: rows for each picture, alike alone and together, and what models take of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindsd.batching.coroutine import is_batchable
from mindsd.engine import Engine
from mindsd.errors import ModelError
from mindsd.pipelines.image_cache import ImageCache
from mindsd.pipelines.vision import ReadImage, Vision
from mindsd.pipelines.vision_tower import PIXELS, VisionTower, open_tower, sizes_of
from tests.zoo.drawing import held
from tests.zoo.tiny_llama import tiny_llama
from tests.zoo.vision import colours, vision_case, vision_names


@pytest.fixture(params=vision_names())
def vision(request) -> Vision:
    case = vision_case(request.param)
    return Vision(case.model, case.processor, ImageCache(0))


def inputs_of(vision: Vision, seed: int, width: int = 32, height: int = 32) -> dict[str, Any]:
    image = vision.read(colours(seed, width, height))
    assert isinstance(image, ReadImage)
    return image.inputs


@torch.inference_mode()
def run(tower: VisionTower, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    others = dict(inputs)
    return tower(others.pop(PIXELS), others, sizes_of(inputs))


def test_pictures_together_are_as_alone(vision):
    each = [inputs_of(vision, seed) for seed in (1, 2, 3)]
    alone = [run(vision.tower, own) for own in each]
    joined = {name: torch.cat([own[name] for own in each]) for name in each[0]}
    together = run(vision.tower, joined)
    assert len(together) == len(alone[0])
    for layer, found in enumerate(together):
        assert found.ndim == 3 and len(found) == 3
        expected = torch.cat([own[layer] for own in alone])
        assert (found - expected).abs().max() <= 1e-4
    assert (alone[0][0] - alone[1][0]).abs().max() > 1e-3


def test_inputs_are_of_one_row_and_none_of_them_is_text(vision):
    inputs = inputs_of(vision, 1)
    assert PIXELS in inputs and all(len(own) == 1 for own in inputs.values())
    assert not {"input_ids", "attention_mask", "mm_token_type_ids"} & set(inputs)
    assert next(vision.tower.weights()).device == vision.tower.device
    assert not list(vision.tower.parameters())  # they are the model's


def test_the_model_takes_back_what_it_saw(vision):
    features = tuple(own[0] for own in run(vision.tower, inputs_of(vision, 1)))
    taken = vision.tower.outputs(features)["image"]
    pooled = taken["pooler_output"]
    rows = pooled if isinstance(pooled, torch.Tensor) else torch.cat(list(pooled))
    assert torch.equal(rows.reshape(-1, rows.shape[-1]), features[0])
    deep = taken.get("deepstack_features") or ()
    assert len(deep) == len(features) - 1


def test_sizes_say_what_pictures_cannot_be_together():
    vision = Vision(vision_case("qwen3_vl").model, vision_case("qwen3_vl").processor, ImageCache(0))
    wide, high, same = (
        sizes_of(inputs_of(vision, seed, *size))
        for seed, size in ((1, (48, 16)), (2, (16, 48)), (3, (48, 16)))
    )
    assert wide == same != high


def test_pictures_of_several_sizes_go_in_groups():
    case = vision_case("qwen2_5_vl")
    vision = Vision(case.model, case.processor, ImageCache(2**20))
    pictures = [colours(i, *size) for i, size in enumerate([(48, 16), (16, 48)] * 3)]
    read = [vision.read(picture) for picture in pictures]
    with torch.inference_mode():
        alone = [run(vision.tower, dict(own.inputs))[0][0] for own in read]  # pyright: ignore
    wraps = open_tower(vision.tower)
    try:
        with Engine() as engine:
            with held(engine):
                asked = [engine.submit(lambda request, own=own: vision.see(own)) for own in read]
            found = [request.result(30) for request in asked]
            assert engine.counts.forwards["image"] == 2 and engine.counts.rows["image"] == 6
    finally:
        for own in reversed(wraps):
            own.remove()
    for own, expected in zip(found, alone, strict=True):
        assert (own.features[0] - expected).abs().max() <= 1e-5
        held_bytes = own.features[0].untyped_storage().nbytes()
        assert held_bytes == own.features[0].nbytes  # not those of its whole group


def test_opened_and_closed_it_is_as_it_was(vision):
    before = dict(vars(vision.tower))
    wraps = open_tower(vision.tower)
    assert is_batchable(vision.tower)
    run(vision.tower, inputs_of(vision, 1))  # outside of an engine it runs as always
    for own in reversed(wraps):
        own.remove()
    assert not is_batchable(vision.tower) and set(vars(vision.tower)) == set(before)


def test_what_has_no_tower_is_refused():
    with pytest.raises(ModelError, match="LlamaForCausalLM has no vision tower of its own"):
        VisionTower(tiny_llama(50))


def test_what_takes_no_seen_images_is_refused():
    model = SimpleNamespace(get_image_features=None, forward=lambda input_ids: None)
    with pytest.raises(ModelError, match="takes no images that were seen before"):
        VisionTower(model)


def test_the_same_picture_of_several_requests_is_seen_once(monkeypatch):
    case = vision_case("qwen3_vl")
    tower = Vision(case.model, case.processor, ImageCache(0)).tower
    each = [inputs_of(Vision(case.model, case.processor, ImageCache(0)), n) for n in (1, 2, 1, 1)]
    joined = {name: torch.cat([own[name] for own in each]) for name in each[0]}
    rows: list[int] = []
    original = tower._features
    monkeypatch.setattr(tower, "_features", lambda p, o: rows.append(len(p)) or original(p, o))
    pixels = joined.pop(PIXELS)
    with torch.inference_mode():
        apart = tower(pixels, joined)
        found = tower(pixels, joined, (), torch.tensor([[7, 1], [7, 2], [7, 1], [7, 1]]))
    assert rows == [4, 2]
    for own, expected in zip(found, apart, strict=True):
        assert (own - expected).abs().max() <= 1e-5


def test_whole_numbers_of_any_size_tell_pictures_apart():
    many = torch.arange(20)
    one, other = ({PIXELS: many, "spatial": many.clone()} for _ in range(2))
    assert sizes_of(one) == sizes_of(other)
    other["spatial"][3] = 99
    assert sizes_of(one) != sizes_of(other)
