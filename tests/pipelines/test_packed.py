"""A model over pages: which ones, what it gives, what it takes, and that it is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mindsd.errors import ModelError, OutOfMemory
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.pipelines import packed as packed_module
from mindsd.pipelines.packed import PackedModel
from tests.zoo.decoders import decoder, prompts

SIZE = 4


@pytest.fixture
def opened():
    """Packed models that are closed in the end."""
    held: list[PackedModel] = []

    def open(model: Any, **more: Any) -> PackedModel:
        held.append(PackedModel(model, **more))
        return held[-1]

    yield open
    for own in held:
        own.close()


def step(own: PackedModel, *lengths: int, blocks: int = 32) -> Step:
    """So many new tokens of each sequence."""
    lanes, lane_of = own.lanes(blocks, SIZE)
    segments, start = [], 0
    for length in lengths:
        number = -(-length // SIZE)
        segments.append(Segment(start, length, 0, [lane.pool.take(number) for lane in lanes]))
        start += length
    pages = PageStore([blocks] * len(lanes), SIZE, lane_of, "auto")
    return Step(segments, pages, lanes, own.device)


def forward(own: PackedModel, texts: list[list[int]], index: list[int]) -> torch.Tensor:
    ids = torch.tensor([[id for text in texts for id in text]])
    positions = torch.tensor([[at for text in texts for at in range(len(text))]])
    with torch.no_grad(), stepping(step(own, *map(len, texts))):
        return own.forward(ids, positions, torch.tensor(index))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_texts_in_one_row_give_the_logits_that_they_give_alone(kind, opened):
    model, texts = decoder(kind), prompts(3)
    with torch.no_grad():
        alone = [model(torch.tensor([text])).logits[0] for text in texts]
    ends = torch.tensor([len(text) for text in texts]).cumsum(0) - 1
    logits = forward(opened(model), texts, [*ends.tolist(), 0])
    expected = torch.stack([*(own[-1] for own in alone), alone[0][0]])
    assert torch.allclose(logits, expected, atol=1e-4)


def test_a_model_that_gives_the_logits_of_all_tokens_is_asked_for_some(opened):
    """Models of old do not know which logits are kept."""
    model, plain = decoder("llama"), decoder("llama")
    original = model.forward

    def old(input_ids: Any, position_ids: Any = None, past_key_values: Any = None, **more: Any):
        assert "logits_to_keep" not in more
        return original(
            input_ids=input_ids, position_ids=position_ids, past_key_values=past_key_values, **more
        )

    model.forward = old
    text = prompts(1)[0]
    with torch.no_grad():
        expected = plain(torch.tensor([text])).logits[0, [2, 0]]
    assert torch.allclose(forward(opened(model), [text], [2, 0]), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("takes", "missing"),
    [
        (lambda input_ids, position_ids: None, "past_key_values"),
        (lambda input_ids, past_key_values: None, "position_ids"),
        (lambda input_ids: None, "position_ids and no past_key_values"),
    ],
)
def test_a_model_that_takes_less_is_refused_by_name(takes, missing):
    model = decoder("llama")
    model.forward = takes
    with pytest.raises(ModelError, match=f"LlamaForCausalLM takes no {missing}$"):
        PackedModel(model)


def test_layers_that_see_the_same_share_a_lane_and_those_that_see_all_come_first(opened):
    own = opened(decoder("gemma2", num_hidden_layers=4))
    assert own.windows == [9, None, 9, None]
    lanes, lane_of = own.lanes(7, SIZE)
    assert [lane.window for lane in lanes] == [None, 9] and lane_of == [1, 0, 1, 0]
    assert [(lane.pool.total, lane.pool.size) for lane in lanes] == [(7, SIZE)] * 2
    assert lanes[0].pool is not lanes[1].pool
    [lane], lane_of = opened(decoder("mistral")).lanes(3, SIZE)
    assert (lane.window, lane_of) == (9, [0, 0])
    [lane], lane_of = opened(decoder("llama")).lanes(5, 8)
    assert (lane.window, lane_of, lane.pool.counts) == (None, [0, 0], (5, 0, 0))


def test_what_a_token_takes_and_a_runner_must_know(opened):
    own = opened(decoder("llama"))  # 2 layers of 2 heads of 8, keys and values
    assert own.token_bytes == {"auto": 2 * 2 * 2 * 8 * 4, "int8": 2 * 2 * 2 * (8 + 4)}
    assert own.runs == {"device": torch.device("cpu"), "clears": True}
    assert not own.see_each_other
    narrow = opened(decoder("llama").bfloat16())
    assert narrow.token_bytes["auto"] == 2 * 2 * 2 * 8 * 2


def state(model: Any) -> tuple[Any, ...]:
    names = sorted(
        name for module in model.modules() for name in vars(module) if name != "_modules"
    )
    kinds = [type(module) for module in model.modules()]
    return model.config._attn_implementation, names, kinds


@pytest.mark.parametrize("prepack", [False, True])
def test_a_closed_model_is_as_it_was(prepack):
    model, text = decoder("llama"), torch.tensor([prompts(1)[0]])
    before = state(model)
    with torch.no_grad():
        expected = model(text).logits
    own = PackedModel(model, prepack=prepack)
    assert state(model) != before
    own.close()
    own.close()
    assert state(model) == before
    with torch.no_grad():
        assert torch.equal(model(text).logits, expected)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (KeyError("a wall"), ModelError, r"LlamaForCausalLM does not run packed \(KeyError: "),
        (ValueError("first\nmore"), ModelError, r"packed \(ValueError: first\)$"),
        (ModelError("rows mix"), ModelError, "^rows mix$"),
        (OutOfMemory("too large"), OutOfMemory, "^too large$"),
        (torch.OutOfMemoryError("40 GiB"), torch.OutOfMemoryError, "40 GiB"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_model_that_fails_its_proof_is_as_it_was(error, kind, said, monkeypatch):
    def fails(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(packed_module, "prove", fails)
    model = decoder("llama")
    before = state(model)
    with pytest.raises(kind, match=said):
        PackedModel(model, prepack=True)
    assert state(model) == before


def test_a_model_that_fails_alone_is_as_it_was(monkeypatch):
    def fails(*args: Any) -> Any:
        raise ModelError("it gives no numbers")

    monkeypatch.setattr(packed_module, "texts_alone", fails)
    model = decoder("llama")
    before = state(model)
    with pytest.raises(ModelError, match="no numbers"):
        PackedModel(model)
    assert state(model) == before


def test_a_model_that_was_changed_while_it_ran_is_told_apart(opened):
    model = decoder("llama")
    own, text = opened(model), prompts(1)[0]
    forward(own, [text], [0])
    del model.model.layers[1]
    with pytest.raises(ModelError, match="asked for attention 1 times, not 2 as before"):
        forward(own, [text], [0])


LONG: dict[str, Any] = {"rope_type": "longrope", "rope_theta": 10000.0}
LONG |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}


@pytest.mark.parametrize(
    ("kind", "options", "reach"),
    [
        ("llama", {}, None),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, None),
        ("phi3", {"original_max_position_embeddings": 32, "rope_parameters": LONG}, 32),
    ],
)
def test_how_far_its_numbers_are_its_own(kind, options, reach, opened):
    assert opened(decoder(kind, **options)).reach == reach
