"""What may not run packed is found out before anybody asks, and is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.errors import ModelError
from mindsd.pipelines.image_cache import ImageCache
from mindsd.pipelines.language_model import in_memory
from mindsd.pipelines.packed import PackedModel
from mindsd.pipelines.proof import LENGTHS, Sample, prove, texts_alone
from mindsd.pipelines.vision import Vision
from mindsd.pipelines.vision_chat import VisionChat, shown
from mindsd.wrap import wrap
from tests.zoo.decoders import decoder
from tests.zoo.vision import colours, vision_case

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    return decoder("llama")


def mixed(original: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What a layer gives, and a little of the mean of its row."""
    return original(hidden) + 0.05 * hidden.mean(1, keepdim=True)


def eyes(name: str) -> Vision:
    case = vision_case(name)
    return Vision(case.model, case.processor, ImageCache(2**20))


def implementation(model: Any) -> str:
    return model.config.get_text_config()._attn_implementation


def test_texts_are_the_same_every_time_and_their_logits_the_models_own(model):
    first, second = texts_alone(model, CPU), texts_alone(model, CPU)
    assert [len(sample.ids) for sample in first] == list(LENGTHS)
    assert [sample.ids for sample in first] == [sample.ids for sample in second]
    for sample in first:
        with torch.no_grad():
            logits = model(torch.tensor([sample.ids])).logits[0]
        assert (sample.logits - logits).abs().max() <= 1e-5


@pytest.mark.parametrize("place", [0, 8])
def test_texts_have_no_image_tokens(model, place, monkeypatch):
    forbidden = texts_alone(model, CPU)[0].ids[place]
    monkeypatch.setattr(model.config, "image_token_id", forbidden, raising=False)
    assert all(forbidden not in sample.ids for sample in texts_alone(model, CPU))


def test_a_model_that_may_is_proven(model):
    packed = PackedModel(model)
    try:
        assert packed.token_bytes["auto"] == 2 * 2 * 2 * 8 * 4  # layers, K and V, heads, dim, bytes
        assert not packed.see_each_other
    finally:
        packed.close()
    assert implementation(model) == "sdpa"


def test_a_model_whose_rows_mix_is_refused(model):
    with wrap(model.model.layers[1].mlp, "forward", mixed):
        with pytest.raises(ModelError, match="other logits of texts packed than alone"):
            PackedModel(model)
    assert implementation(model) == "sdpa"


def test_a_model_that_looks_back_one_token_is_refused(model):
    """As recurrent layers and convolutions do: at its neighbour in the row, whosever it is."""

    def shifted(original: Any, hidden: torch.Tensor) -> torch.Tensor:
        return original(hidden) + 0.1 * torch.nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1]

    with wrap(model.model.layers[0].mlp, "forward", shifted):
        with pytest.raises(ModelError, match="other logits of texts packed"):
            PackedModel(model)


def test_numbers_that_are_none_are_refused(model):
    def broken(original: Any, hidden: torch.Tensor) -> torch.Tensor:
        found = original(hidden)
        return found if hidden.shape[1] in LENGTHS else found * torch.nan

    with wrap(model.model.layers[1].mlp, "forward", broken):
        with pytest.raises(ModelError, match="off by nan"):
            PackedModel(model)


def test_samples_that_are_wrong_are_refused(model):
    packed = PackedModel(model)
    try:
        [sample, *_] = texts_alone(model, CPU)
        given = (packed.forward, packed.lanes, packed.runs, 1e-4)
        assert prove("it", [sample], *given) == packed.token_bytes
        wrong = Sample(sample.ids, sample.logits + 0.1 * sample.logits.abs().max())
        with pytest.raises(ModelError, match="it computes other logits of texts"):
            prove("it", [sample, wrong], *given)
        prove("it", [wrong], *given[:-1], 0.2)  # as far off as is tolerated
    finally:
        packed.close()


@pytest.mark.parametrize(("name", "each_other"), [("gemma3", True), ("qwen3_vl", False)])
def test_how_the_tokens_of_a_picture_see_each_other_is_found_out(name, each_other):
    vision = eyes(name)
    packed = PackedModel(vision.model, vision=vision)
    packed.close()
    assert packed.see_each_other is each_other
    assert vision.cache.counts["images"] == 0  # nobody asked about those pictures
    assert implementation(vision.model) == "sdpa"


def test_a_vision_model_whose_rows_mix_is_refused():
    vision = eyes("llava")
    layer = vision.model.model.language_model.layers[0].mlp
    with wrap(layer, "forward", mixed):
        with pytest.raises(ModelError, match="other logits of texts"):
            PackedModel(vision.model, vision=vision)
    assert implementation(vision.model) == "sdpa"


def noisy(original: Any, *given: Any) -> Any:
    first, *deep = original(*given)
    return (first + 0.2 * first.roll(1, 1), *deep)


def swapped(original: Any, *given: Any) -> Any:
    return tuple(own.flip(1) for own in original(*given))


def deeper(original: Any, *given: Any) -> Any:
    first, *deep = original(*given)
    return (first, *(2 * own for own in deep))


@pytest.mark.parametrize(
    ("name", "change"),
    [(name, noisy) for name in ("llava", "qwen3_vl", "gemma3")]
    + [("smolvlm", swapped), ("qwen3_vl", deeper)],
)
def test_wrong_features_of_a_tower_are_refused(name, change):
    vision = eyes(name)
    with wrap(vision.tower, "forward", change):
        with pytest.raises(ModelError, match="other logits of prompts with images packed"):
            PackedModel(vision.model, vision=vision)
    assert implementation(vision.model) == "sdpa"


def test_a_tower_of_too_few_rows_is_refused():
    vision = eyes("llava")
    fewer = wrap(vision.tower, "forward", lambda original, *given: (original(*given)[0][:, 1:],))
    with fewer, pytest.raises(ModelError, match="gave 15 rows for a picture of 16 tokens"):
        PackedModel(vision.model, vision=vision)


def test_a_processor_that_refuses_all_pictures_is_told(monkeypatch):
    vision = eyes("llava")

    def refuse(*given: Any, **how: Any) -> Any:
        raise TypeError("no pictures\ntoday")

    monkeypatch.setattr(type(vision.processor), "__call__", refuse)
    with pytest.raises(ModelError, match="no picture can be shown to it: .*: no pictures$"):
        PackedModel(vision.model, vision=vision)
    assert implementation(vision.model) == "sdpa"


def test_what_is_refused_runs_plainly_and_rightly():
    """A model that mixes rows answers as `generate` does, one request at a time."""
    case = vision_case("internvl")
    layer = case.model.model.language_model.layers[0].mlp
    with wrap(layer, "forward", mixed):
        with VisionChat(in_memory(case.model, case.tokenizer, case.processor)) as own:
            assert own.model.packed is None and "of texts packed" in str(own.model.why_plain)
            asked = [shown(colours(1, 40, 32), "What?")]
            found = own(asked, temperature=0, max_tokens=4, ignore_eos=True)
            assert len(found.tokens) == 4
    with VisionChat(in_memory(case.model, case.tokenizer, case.processor)) as own:
        assert own.model.packed is not None and own.model.why_plain is None
