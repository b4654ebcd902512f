"""Decoder layers and heads in C beside the modules themselves."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from mindsd import native
from mindsd.attention import decoder_layer
from mindsd.attention.decoder import attach_decoder
from mindsd.attention.decoder_layer import Crew
from mindsd.attention.decoder_product import (
    EIGHTS,
    PAIRS,
    PLAIN,
    TILES,
    Linear,
    library,
    rounded,
    source,
    why_lacking,
)
from mindsd.attention.for_transformers import attach_language
from mindsd.attention.int8_weights import Rounded, cannot_round
from mindsd.attention.layers import LANGUAGE_LAYERS, check_layers
from mindsd.device import cpu_facts
from mindsd.errors import RequestError
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Segment, Step, stepping
from mindsd.pipelines.packed import PackedModel
from mindsd.wrap import wrap

SIZES: dict[str, Any] = dict(
    vocab_size=200,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=256,
    pad_token_id=0,
    bos_token_id=0,
    eos_token_id=1,
)
MODELS: list[tuple[type, type, dict[str, Any]]] = [
    (LlamaConfig, LlamaForCausalLM, {}),
    (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4, "head_dim": 32}),
    (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 1, "hidden_size": 72}),
    (Qwen2Config, Qwen2ForCausalLM, {}),
    (Qwen3Config, Qwen3ForCausalLM, {}),
    (MistralConfig, MistralForCausalLM, {"sliding_window": 8}),
    (SmolLM3Config, SmolLM3ForCausalLM, {"no_rope_layers": [1, 0]}),
]
DTYPES = [torch.float32, torch.bfloat16]
NEAR = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
EVERYTHING = {"model.layers.0": "C", "model.layers.1": "C", "the head": "C"}


def skip_without(dtype: torch.dtype) -> None:
    if isinstance(reason := library(dtype), str):
        pytest.skip(reason)


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    skip_without(request.param)
    return request.param


@pytest.fixture
def plain() -> None:
    skip_without(torch.float32)


def model(config: type, kind: type, dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    """Random weights, so large that every part of a layer matters."""
    torch.manual_seed(0)
    own = kind(config(**SIZES | more)).eval()
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif parameter.dim() == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
            else:
                parameter.normal_()
    return own.to(dtype)


def llama(dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    return model(LlamaConfig, LlamaForCausalLM, dtype, **more)


# -- products ----------------------------------------------------------------------


def features() -> Iterator[tuple[str, ...]]:
    """What this processor has, less and less of it."""
    have = cpu_facts()[1]
    yield from (own for own in (PAIRS + TILES, PAIRS, PLAIN, EIGHTS) if set(own) <= set(have))


@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize("shape", [(96, 64), (70, 50), (40, 700)], ids=str)
def test_products_of_any_number_of_rows(
    dtype: torch.dtype, shape: tuple[int, int], eight_bits: bool
) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(*shape).to(dtype), torch.randn(shape[0]).to(dtype)
    levels, scale = rounded(weight)
    meant = levels.double() * scale[:, None] if eight_bits else weight.double()
    own = Linear(weight, bias, eight_bits)
    for rows in (1, 2, 3, 4, 7, 8, 9, 16, 17, 33, 64, 65):
        x = torch.randn(rows, shape[1]).to(dtype)
        expected = x.double() @ meant.T + bias.double()
        got = own(x)
        assert got.dtype is dtype
        most = {torch.float32: 1e-5, torch.bfloat16: 5e-3}[dtype]
        assert (got - expected).abs().max() <= most * expected.abs().max(), rows


@pytest.mark.parametrize("having", list(features()), ids="-".join)
def test_with_fewer_instructions(having: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = torch.float32 if having in (PLAIN, EIGHTS) else torch.bfloat16
    found = library(dtype, having)
    if isinstance(found, str):
        pytest.skip(found)
    monkeypatch.setattr("mindsd.attention.decoder_product.library", lambda dtype: found)
    monkeypatch.setattr("mindsd.attention.decoder.library", lambda dtype: found)
    own = llama(dtype)
    attached = attach_language(own)
    try:
        assert attach_decoder(own).served == EVERYTHING
    finally:
        attached.remove()


def test_what_a_processor_lacks_is_named() -> None:
    assert why_lacking(torch.float32, EIGHTS) is why_lacking(torch.float32, PLAIN) is None
    assert why_lacking(torch.bfloat16, PAIRS) is None
    assert why_lacking(torch.float32, ()) == "this processor has neither avx2 nor avx512f"
    lacking = "this processor has no avx512f and no avx512_bf16"
    assert why_lacking(torch.bfloat16, ()) == lacking
    assert why_lacking(torch.bfloat16, EIGHTS) == f"{lacking}; float32 runs in C here"


@pytest.mark.parametrize("having", [EIGHTS, PLAIN, PAIRS, PAIRS + TILES], ids="-".join)
def test_the_c_file_is_built_for_what_there_is(having: tuple[str, ...]) -> None:
    assert source(("avx2", "avx512_vnni", *having)).needs == having


def test_rounding_to_8_bits() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.0], [0.0, 0.0, 0.0]])
    levels, scale = rounded(weight)
    assert levels.tolist() == [[127, -64, 0], [0, 0, 0]]
    assert torch.allclose(scale[:1], torch.tensor([1 / 127]))


# -- layers ----------------------------------------------------------------------


@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize(("config", "kind", "more"), MODELS, ids=lambda own: str(own)[-30:])
def test_layers_are_taken_and_trusted(
    config: type, kind: type, more: dict[str, Any], dtype: torch.dtype, eight_bits: bool
) -> None:
    own = model(config, kind, dtype, **more)
    before = [vars(module).get("forward") for module in own.modules()]
    attached = attach_language(own)
    if eight_bits:
        Rounded(own)
    fused = attach_decoder(own, eight_bits)
    assert fused.served == EVERYTHING and not fused.left
    fused.remove()
    attached.remove()
    assert [vars(module).get("forward") for module in own.modules()] == before


@pytest.mark.parametrize(
    ("config", "kind", "more", "why"),
    [
        (GraniteConfig, GraniteForCausalLM, {"residual_multiplier": 0.5}, "is off by"),
        (Gemma3TextConfig, Gemma3ForCausalLM, {}, "post_feedforward_layernorm"),
        (LlamaConfig, LlamaForCausalLM, {"hidden_act": "gelu"}, "no unit gated by SiLU"),
        (LlamaConfig, LlamaForCausalLM, {"head_dim": 8}, "heads of 8 numbers"),
        (
            *(LlamaConfig, LlamaForCausalLM),
            *({"head_dim": 48, "num_attention_heads": 1, "num_key_value_heads": 1}, "no multiple"),
        ),
    ],
    ids=["granite", "gemma3", "gelu", "narrow", "odd"],
)
def test_other_layers_are_left(
    config: type, kind: type, more: dict[str, Any], why: str, plain: None
) -> None:
    own = model(config, kind, **more)
    attached = attach_language(own)
    fused = attach_decoder(own)
    attached.remove()
    assert not fused.served
    assert set(fused.left) == {"model.layers.0", "model.layers.1"}
    assert all(why in reason for reason in fused.left.values())


def test_a_layer_that_takes_other_arguments_is_left(
    plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = llama()
    kind = type(own.model.layers[0].self_attn)
    before = kind.forward

    def forward(self: Any, *args: Any, sections: Any = None, **kwargs: Any) -> Any:
        if sections is None:
            raise ValueError("no sections")
        return before(self, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", forward)
    attached = attach_language(own)
    fused = attach_decoder(own)
    attached.remove()
    assert not fused.served
    assert set(fused.left.values()) == {"ValueError: no sections"}


def test_what_fails_unasked_costs_nothing_else(
    plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr("mindsd.pipelines.packed.attach_decoder", fails)
    packs = Packs(llama())
    assert packs.packed.native is not None
    assert packs.packed.native.left == {"all": "RuntimeError: no luck"}
    packs.packed.close()


def test_a_strangers_wrapper_that_carries_our_mark_is_seen(plain: None) -> None:
    own = llama()
    up = own.model.layers[1].mlp.up_proj
    packed = wrap(up, "forward", _as_prepacked)
    inner = up.forward

    @functools.wraps(inner)
    def thrice(x: Tensor) -> Tensor:
        return 3 * inner(x)

    up.forward = thrice
    attached = attach_language(own)
    fused = attach_decoder(own)
    assert "somebody" in fused.left["model.layers.1"]
    fused.remove()
    attached.remove()
    packed.remove()


def _as_prepacked(original: Any, x: Tensor) -> Tensor:
    return original(x)


_as_prepacked.__module__ = "mindsd.prepack"


def test_a_layer_that_somebody_wrapped_is_left(plain: None) -> None:
    own = llama()
    wrap(own.model.layers[1].mlp.up_proj, "forward", lambda original, x: original(x) * 2)
    attached = attach_language(own)
    fused = attach_decoder(own)
    attached.remove()
    assert "model.layers.0" in fused.served
    assert "somebody" in fused.left["model.layers.1"]


# -- whole models ----------------------------------------------------------------------

TEXTS = (11, 5, 1, 2)  # tokens of each


class Packs:
    """A packed model, its pages, and one step after the other of the same texts."""

    def __init__(self, own: Any, cache: str = "auto", **options: Any):
        self.packed = PackedModel(own, prepack=True, **options)
        self.size = 4
        self.lanes, lane_of = self.packed.lanes(64, self.size)
        blocks = [lane.pool.total for lane in self.lanes]
        self.pages = PageStore(blocks, self.size, lane_of, cache)
        order = torch.randperm(64, generator=torch.Generator().manual_seed(1)).tolist()
        self._tables = [order[16 * i : 16 * i + 16] for i in range(len(TEXTS))]
        self.past = [0] * len(TEXTS)

    @torch.inference_mode()
    def step(self, lengths: tuple[int, ...], adapter: str | None = None) -> Tensor:
        segments, start = [], 0
        for i, length in enumerate(lengths):
            tables = [self._tables[i]] * len(self.lanes)
            segments.append(Segment(start, length, self.past[i], tables, adapter))
            start += length
        generator = torch.Generator().manual_seed(sum(self.past))
        ids = torch.randint(0, 200, (1, start), generator=generator)
        at = [p for own in segments for p in range(own.past, own.total)]
        step = Step(segments, self.pages, self.lanes, torch.device("cpu"))
        with stepping(step):
            out = self.packed.forward(ids, torch.tensor([at]), torch.arange(start)).float()
        self.past = [own.total for own in segments]
        return out


def off(own: Any) -> float:
    """How far C is from the model's own forwards, over steps of few tokens and of many."""
    c, modules = Packs(own), None
    try:
        assert c.packed.native is not None and c.packed.native.served == EVERYTHING
        ours = [c.step(TEXTS), c.step((1, 1, 1, 1)), c.step((1, 40, 30, 1)), c.step((2, 1, 1, 3))]
    finally:
        c.packed.close()
    modules = Packs(own, layers="off")
    try:
        assert modules.packed.native is None
        theirs = [
            modules.step(TEXTS),
            modules.step((1, 1, 1, 1)),
            modules.step((1, 40, 30, 1)),
            modules.step((2, 1, 1, 3)),
        ]
    finally:
        modules.packed.close()
    both = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in both)


@pytest.mark.parametrize(("config", "kind", "more"), MODELS, ids=lambda own: str(own)[-30:])
@pytest.mark.parametrize("most", [64, decoder_layer.MOST])  # at 64 one of the steps is too long
def test_steps_in_c_give_what_the_modules_give(
    config: type,
    kind: type,
    more: dict[str, Any],
    dtype: torch.dtype,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_layer, "MOST", most)
    assert off(model(config, kind, dtype, **more)) <= NEAR[dtype]


@pytest.mark.parametrize("cache", ["auto", "int8"])
def test_a_text_does_not_depend_on_the_others(plain: None, cache: str) -> None:
    found = []
    for lengths in (TEXTS, (11, 1, 1, 1), (11, 40, 3, 9)):
        packs = Packs(llama(), cache)
        found.append(packs.step(lengths)[..., :11, :])
        packs.packed.close()
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_pages_of_8_bits(plain: None) -> None:
    found = []
    for layers in ("auto", "off"):
        packs = Packs(llama(), "int8", layers=layers)
        found.append([packs.step(TEXTS), packs.step((1, 1, 1, 1))])
        packs.packed.close()
    for ours, theirs in zip(*found, strict=True):
        # A number half-way between two levels may be rounded to either.
        assert (ours - theirs).abs().max() <= 5e-3 * theirs.abs().max()


def calls(packed: PackedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers each call of C computes, from now on."""
    made: list[int] = []
    original = Crew._run

    def counted(self: Any, *args: Any) -> Any:
        chain = original(self, *args)
        made.append(len(chain.outs))
        return chain

    monkeypatch.setattr(Crew, "_run", counted)
    return made


def test_all_layers_are_one_call(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = Packs(llama())
    made = calls(packs.packed, monkeypatch)
    packs.step(TEXTS)
    assert made == [2]
    packs.packed.close()


@pytest.mark.parametrize("hook", [lambda m, x, out: out * 1.5, lambda m, x, out: out.mul_(1.5)])
def test_what_comes_between_two_layers_counts(
    plain: None, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for layers in ("auto", "off"):
        own = llama()
        packs = Packs(own, layers=layers)
        made = calls(packs.packed, monkeypatch)
        hung = own.model.layers[0].register_forward_hook(hook)
        found.append(packs.step(TEXTS))
        assert made == ([1, 1] if layers == "auto" else [])
        hung.remove()
        packs.packed.close()
        monkeypatch.undo()
    assert torch.allclose(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", ["in place", "exchanged", "wrapped", "norm"])
def test_a_changed_weight_is_followed(
    change: str, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = llama()
    packs = Packs(own)
    made = calls(packs.packed, monkeypatch)
    packs.step(TEXTS)
    layer = own.model.layers[1]
    with torch.no_grad():
        if change == "in place":
            layer.mlp.up_proj.weight.mul_(2)
        elif change == "exchanged":
            layer.mlp.up_proj.weight = nn.Parameter(layer.mlp.up_proj.weight * 2)
        elif change == "norm":
            layer.input_layernorm.weight.mul_(2)
        else:
            wrap(layer.mlp.up_proj, "forward", lambda original, x: 2 * original(x))
    packs.step((2, 1, 1, 1))
    packs.step((1, 1, 1, 1))  # and it is not forgotten
    assert made == [2]
    packs.packed.close()


def test_texts_with_adapters_run_the_modules(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = Packs(llama())
    made = calls(packs.packed, monkeypatch)
    packs.step(TEXTS, adapter="a")
    assert made == []
    packs.step((1, 1, 1, 1))
    assert made == [2]
    packs.packed.close()


# -- 8 bits ----------------------------------------------------------------------


def test_8_bits_change_little_and_are_taken_back(dtype: torch.dtype) -> None:
    own = llama(dtype)
    before = {name: weight.clone() for name, weight in own.state_dict().items()}
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        plain = own(input_ids=ids).logits.float()
    packs = Packs(own, layers="int8")
    assert packs.packed.native is not None and packs.packed.native.served == EVERYTHING
    with torch.inference_mode():
        coarse = own(input_ids=ids).logits.float()
    assert 1e-3 < (coarse - plain).abs().max() / plain.abs().max() < 1e-1
    packs.packed.close()
    after = own.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_8_bits_are_refused_by_name(plain: None) -> None:
    with pytest.raises(RequestError, match="unknown layers 'int8'"):
        check_layers("int8", "cpu", torch.float32)
    with pytest.raises(RequestError, match="on a CPU only"):
        check_layers("int8", "cuda", torch.float32, LANGUAGE_LAYERS)
    with pytest.raises(RequestError, match="not float16"):
        check_layers("int8", "cpu", torch.float16, LANGUAGE_LAYERS)
    check_layers("int8", "cpu", torch.float32, LANGUAGE_LAYERS)
    with pytest.raises(RequestError, match="no layer of Gemma3"):
        PackedModel(model(Gemma3TextConfig, Gemma3ForCausalLM), layers="int8")


def test_without_a_compiler_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.OFF, "off")
    for own in (native.load, library):
        own.cache_clear()
    try:
        packs = Packs(llama())
        assert packs.packed.native is not None and not packs.packed.native.served
        assert "native kernels are off" in str(packs.packed.native.left)
        packs.packed.close()
        assert "native kernels are off" in str(cannot_round("cpu", torch.float32))
    finally:
        for own in (native.load, library):
            own.cache_clear()
