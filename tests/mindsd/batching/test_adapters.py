"""Adapters change the tokens of their own segments, and nothing when they are gone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch

from mindsd.batching.adapters import Adapters
from mindsd.engine import Engine
from mindsd.errors import Cancelled, ModelError, RequestError
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.prefix import root
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.kvcache.table import BlockTable
from mindsd.pipelines.packed import PackedModel
from tests.zoo.decoders import decoder, prompts
from tests.zoo.lora import adapted, save_adapter
from tests.zoo.tiny_llama import tiny_llama

QUERY = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def model():
    return tiny_llama(64)


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    """Of two adapters on different layers."""
    root = tmp_path_factory.mktemp("adapters")
    save_adapter(model, root / "a", 1)
    save_adapter(model, root / "b", 2, r=3, use_rslora=True, target_modules=["q_proj", "up_proj"])
    return root


@pytest.fixture
def own(model, folders):
    adapters = Adapters(model)
    for name in "ab":
        adapters.add(name, folders / name)
    yield adapters
    adapters.close()


def keys(own: Adapters) -> dict[str | None, str | None]:
    """What segments call the adapters."""
    return {None: None, **{name: own._find(name).key for name in own.names}}


def step(*parts: tuple[int, str | None]) -> Step:
    segments, start = [], 0
    for length, key in parts:
        segments.append(Segment(start, length, 0, [[]], key))
        start += length
    return Step(segments, cast(Any, None), [], torch.device("cpu"))


def is_plain(model) -> bool:
    return not any("forward" in vars(module) for module in model.modules())


def layer(model, folder, name=QUERY):
    """peft's own layer."""
    return adapted(model, folder).get_submodule(f"base_model.model.{name}")


@pytest.mark.parametrize(
    "names",
    [["a"], ["a", None], [None, "b", "b"], ["a", "b", "a"], ["b", None, "a", None, "b", "a"]],
)
@torch.inference_mode()
def test_each_segment_has_its_own(model, folders, own, names):
    x = torch.randn(1, 3 * len(names), 16)
    linear, key = model.get_submodule(QUERY), keys(own)
    before = linear(x)
    with stepping(step(*((3, key[name]) for name in names))):
        found = linear(x)
    assert torch.equal(linear(x), before)  # outside of the step nothing happens
    for place, name in enumerate(names):
        rows = slice(3 * place, 3 * place + 3)
        if name is None:
            assert torch.equal(found[:, rows], before[:, rows])
        else:
            expected = layer(model, folders / name)(x[:, rows])
            torch.testing.assert_close(found[:, rows], expected)
            assert not torch.allclose(found[:, rows], before[:, rows])


@torch.inference_mode()
def test_a_layer_that_only_one_adapter_has(model, folders, own):
    x, name = torch.randn(1, 4, 16), "model.layers.1.mlp.up_proj"
    linear, key = model.get_submodule(name), keys(own)
    before = linear(x)
    with stepping(step((2, key["a"]), (2, key["b"]))):
        found = linear(x)
    assert torch.equal(found[:, :2], before[:, :2])
    torch.testing.assert_close(found[:, 2:], layer(model, folders / "b", name)(x[:, 2:]))


@torch.inference_mode()
def test_rows_are_gathered_once_for_a_step(model, own):
    key = keys(own)
    now = step((1, key["a"]), (1, None), (1, key["a"]))
    with stepping(now):
        for name in ("q_proj", "k_proj"):
            model.get_submodule(f"model.layers.0.self_attn.{name}")(torch.randn(1, 3, 16))
    [[part]] = now.plans.values()
    assert part.rows.tolist() == [0, 2]
    plain = step((3, None))
    with stepping(plain):
        model.get_submodule(QUERY)(torch.randn(1, 3, 16))
    assert list(plain.plans.values()) == [[]]


def test_only_the_instance_is_touched_and_only_where_needed(model, folders):
    adapters, other = Adapters(model), tiny_llama(64)
    assert is_plain(model)
    adapters.add("b", folders / "b")
    wrapped = {name for name, module in model.named_modules() if "forward" in vars(module)}
    assert len(wrapped) == 4 and all(name.endswith(("q_proj", "up_proj")) for name in wrapped)
    assert is_plain(other)
    adapters.add("a", folders / "a")
    adapters.remove("b")
    assert "forward" not in vars(model.get_submodule("model.layers.0.mlp.up_proj"))
    assert "forward" in vars(model.get_submodule(QUERY))
    adapters.close()
    assert is_plain(model) and adapters.names == ()


def test_removal_gives_the_model_back_bit_for_bit(model, folders):
    ids = torch.arange(12)[None]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        before = model(ids).logits
    adapters = Adapters(model)
    adapters.add("a", folders / "a")
    adapters.remove("a")
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert is_plain(model)


def test_two_sets_on_one_model_do_not_meet(model, folders, own):
    other = Adapters(model)
    other.add("a", folders / "b")  # the same name, another adapter
    x, linear = torch.randn(1, 2, 16), model.get_submodule(QUERY)
    with torch.inference_mode():
        with stepping(step((1, keys(own)["a"]), (1, keys(other)["a"]))):
            found = linear(x)
        torch.testing.assert_close(found[:, :1], layer(model, folders / "a")(x[:, :1]))
        torch.testing.assert_close(found[:, 1:], layer(model, folders / "b")(x[:, 1:]))
    other.close()
    assert not is_plain(model)


def test_a_key_is_never_given_twice(model, folders):
    adapters, found = Adapters(model), set()
    for _ in range(3):
        adapters.add("a", folders / "a")
        found.add(keys(adapters)["a"])
        adapters.remove("a")
    assert len(found) == 3


def test_names_are_checked(own, folders):
    assert own.names == ("a", "b")
    with pytest.raises(RequestError, match="an adapter 'a' already"):
        own.add("a", folders / "a")
    for name in ("", "a\0b", "a\nb", 3):
        with pytest.raises(RequestError, match="a text on one line"):
            own.add(cast(Any, name), folders / "a")
    with pytest.raises(RequestError, match="no adapter 'c'; loaded are: a, b"):
        own.remove("c")
    with pytest.raises(RequestError, match="did you mean 'b'"):
        own.start("bb", lambda key: cast(Any, None))


def test_one_that_is_refused_leaves_nothing(model, folders):
    adapters = Adapters(model)
    with pytest.raises(ModelError, match="no adapter_config.json"):
        adapters.add("a", folders)
    assert adapters.names == () and is_plain(model)


def test_one_in_use_stays_until_its_requests_end(model, folders):
    adapters, go = Adapters(model), threading.Event()
    adapters.add("a", folders / "a")
    with Engine() as engine:
        request = adapters.start("a", lambda key: engine.submit(lambda own: go.wait(10) and key))
        with pytest.raises(RequestError, match="'a' is in use by 1 request;"):
            adapters.remove("a")
        go.set()
        assert request.result().startswith("a#")
        adapters.remove("a")


def test_what_cannot_be_submitted_uses_nothing(model, folders):
    adapters = Adapters(model)
    adapters.add("a", folders / "a")

    def full(key: str) -> Any:
        raise RequestError("full")

    with pytest.raises(RequestError, match="full"):
        adapters.start("a", full)
    adapters.remove("a")


def test_close_cancels_who_uses_one(model, folders):
    adapters, begun = Adapters(model), threading.Event()
    adapters.add("a", folders / "a")

    def body(own: Any) -> None:
        begun.set()
        own.cancelled.wait(10)
        own.stop_if_cancelled()

    with Engine() as engine:
        request = adapters.start("a", lambda key: engine.submit(body))
        assert begun.wait(10)
        adapters.close()
        with pytest.raises(Cancelled):
            request.result(0)
        assert is_plain(model)
        with pytest.raises(RequestError, match="were closed"):
            adapters.add("a", folders / "a")


def test_close_on_the_thread_that_runs_them_is_refused(model, folders):
    adapters = Adapters(model)
    adapters.add("a", folders / "a")
    with Engine() as engine:
        request = adapters.start("a", lambda key: engine.submit(lambda own: adapters.close()))
        with pytest.raises((RequestError, Cancelled)):
            request.result(10)
        adapters.close()
    assert is_plain(model)


def test_a_layer_that_is_given_other_tokens_is_refused(model, own):
    with stepping(step((3, keys(own)["a"]))), pytest.raises(ModelError, match="2 tokens .* of 3"):
        model.get_submodule(QUERY)(torch.randn(1, 2, 16))


@torch.inference_mode()
def packed_logits(packed: PackedModel, texts: Sequence[list[int]], own: Sequence[str | None]):
    """Of all tokens, in one forward."""
    lanes, lane_of = packed.lanes(64, 4)
    pages = PageStore([lane.pool.total for lane in lanes], 4, lane_of, "auto")
    segments, start = [], 0
    for text, key in zip(texts, own, strict=True):
        table = BlockTable(lanes, root())
        table.reserve(0, len(text))
        segments.append(Segment(start, len(text), 0, table.blocks, key))
        start += len(text)
    ids = torch.tensor([[token for text in texts for token in text]])
    positions = torch.tensor([[place for text in texts for place in range(len(text))]])
    with stepping(Step(segments, pages, lanes, packed.device)):
        return packed.forward(ids, positions, torch.arange(start)).split([len(t) for t in texts])


TARGETS = {
    "llama": ["q_proj", "down_proj"],
    "gpt2": ["c_attn", "mlp.c_proj"],
    "phi3": ["qkv_proj", "gate_up_proj"],
    "qwen3_moe": ["k_proj", "o_proj"],
    "deepseek_v3": ["kv_b_proj", "q_b_proj", "o_proj"],
    "gpt_neox": ["query_key_value", "dense_h_to_4h"],
    "gemma2": ["v_proj", "gate_proj"],
}


@pytest.mark.parametrize("kind", TARGETS)
def test_logits_are_pefts_own(kind, tmp_path):
    model = decoder(kind)
    names: list[str | None] = ["a", None, "b", "a"]
    for seed, name in enumerate("ab"):
        save_adapter(model, tmp_path / name, seed, r=3, lora_alpha=3, target_modules=TARGETS[kind])
    texts = [text or [5] for text in prompts(4, 20)]
    alone = {None: model, **{name: adapted(model, tmp_path / name) for name in "ab"}}
    with torch.inference_mode():
        expected = [
            alone[name](input_ids=torch.tensor([text]), use_cache=False).logits[0]
            for name, text in zip(names, texts, strict=True)
        ]
    packed, own = PackedModel(model), Adapters(model)
    for name in "ab":
        own.add(name, tmp_path / name)
    key = keys(own)
    found = packed_logits(packed, texts, [key[name] for name in names])
    for mine, theirs in zip(found, expected, strict=True):
        largest = float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5 * max(1.0, largest))
    own.close()
    packed.close()
