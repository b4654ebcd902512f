"""One layer in 8 bits: its numbers, what it leaves to the layer's own, and what it notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft.mapping import inject_adapter_in_model
from peft.tuners.lora import LoraConfig
from torch import Tensor, nn

from mindsd.attention import int8_products
from mindsd.attention.decoder_product import rounded
from mindsd.attention.int8_layers import cannot_round_layers
from mindsd.attention.int8_products import FEW, Last, Rounded, Sample
from mindsd.attention.int8_rounding import ZERO, round_images, round_rows
from mindsd.wrap import wrap

HERE = cannot_round_layers("cpu", torch.float32)
pytestmark = pytest.mark.skipif(HERE is not None, reason=str(HERE))
DTYPES = (torch.float32, torch.bfloat16)
CONVS: dict[str, dict[str, Any]] = {
    "3 x 3": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "wide": {"kernel_size": (1, 3), "padding": (0, 2), "dilation": (1, 2), "bias": False},
    "pixels": {"kernel_size": 1},
    "some pixels": {"kernel_size": 1, "stride": 2, "padding": 1},
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def linear(dtype: torch.dtype = torch.float32, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 40, bias=bias).to(dtype)


def weight_of(module: Any) -> Tensor:
    """As 8 bits hold it, in float64."""
    levels, scale = rounded(module.weight.flatten(1))
    return (levels.double() * scale[:, None].double()).view(module.weight.shape)


def bias_of(module: Any) -> Tensor | None:
    return None if module.bias is None else module.bias.double()


def near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Equal but for how sums, scales and the result are rounded: twice, in bfloat16."""
    most = 1e-5 if dtype is torch.float32 else 1e-2
    apart = (found.double() - expected).abs().max() / expected.abs().max()
    return found.dtype is dtype and bool(apart <= most)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_linear_layer_rounds_each_row(dtype: torch.dtype, bias: bool):
    module, x = linear(dtype, bias), drawn(2, 64, 48, dtype=dtype)
    levels, scale = round_rows(x.view(-1, 48))
    back = (levels.double() - ZERO) * scale[:, None].double()
    expected = nn.functional.linear(back, weight_of(module), bias_of(module)).view(2, 64, 40)
    assert near(Rounded(module, Last())(refused, x), expected, dtype)


@pytest.mark.parametrize("name", ["3 x 3", "strided", "wide", "some pixels"])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_a_convolution_rounds_each_image(name: str, dtype: torch.dtype):
    module = nn.Conv2d(24, 40, **CONVS[name]).to(dtype)
    x = drawn(3, 24, 8, 7, dtype=dtype) + 0.3
    levels, scales, zeros = round_images(x.contiguous(memory_format=torch.channels_last))
    each = zip(levels.double(), scales, zeros, strict=True)
    back = torch.stack([(own - zero) * scale for own, scale, zero in each])
    shape = module.stride, module.padding, module.dilation
    expected = nn.functional.conv2d(back, weight_of(module), bias_of(module), *shape)  # type: ignore
    assert near(Rounded(module, Last())(refused, x), expected, dtype)


@torch.inference_mode()
def test_pixels_alone_are_rows():
    module, x = nn.Conv2d(48, 40, 1), drawn(2, 48, 8, 8)
    same: Any = linear()
    same.weight, same.bias = nn.Parameter(module.weight.flatten(1)), module.bias
    found = Rounded(module, Last())(refused, x)
    expected = Rounded(same, Last())(refused, x.permute(0, 2, 3, 1))
    assert torch.equal(found.permute(0, 2, 3, 1), expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CONVS)
@torch.inference_mode()
def test_an_image_does_not_depend_on_its_company(name: str):
    conv, one = Rounded(nn.Conv2d(24, 40, **CONVS[name]), Last()), Rounded(linear(), Last())
    images, tokens = drawn(2, 24, 8, 8), drawn(2, 40, 48)
    images[1] *= 100
    tokens[1] *= 100
    assert torch.equal(conv(refused, images)[:1], conv(refused, images[:1]))
    assert torch.equal(one(refused, tokens)[:1], one(refused, tokens[:1]))


def refused(*told: Any) -> Tensor:
    raise AssertionError("the layer's own was asked")


def asked(layer: Rounded, x: Tensor) -> bool:
    """Whether a layer leaves this input to its own."""
    return not isinstance(layer(lambda x: 0, x), Tensor)  # type: ignore[arg-type,return-value]


@torch.inference_mode()
def test_what_does_not_fit_is_the_layers_own():
    layer, conv = Rounded(linear(), Last()), Rounded(nn.Conv2d(24, 40, 3), Last())
    assert not asked(layer, drawn(FEW, 48)) and not asked(layer, drawn(2, 4, FEW // 4, 48))
    own = drawn(2, FEW - 1, 48), drawn(48), drawn(2, FEW, 40), drawn(0, FEW, 48)
    assert all(asked(layer, x) for x in (*own, drawn(FEW, 48, dtype=torch.bfloat16)))
    assert all(asked(conv, x) for x in (drawn(24, 8, 8), drawn(1, 24, 5, 5), drawn(1, 23, 8, 8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert asked(layer, drawn(FEW, 48))
    with torch.inference_mode(False):
        assert asked(layer, drawn(FEW, 48)) and not torch.is_inference_mode_enabled()


CHANGES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda own: own.weight.mul_(2),
    "through data": lambda own: own.weight.data.mul_(2),
    "exchanged": lambda own: setattr(own, "weight", nn.Parameter(own.weight * 2)),
    "new data": lambda own: setattr(own.weight, "data", own.weight * 2),
    "loaded": lambda own: own.load_state_dict({"weight": own.weight * 2, "bias": own.bias}),
    "another dtype": lambda own: own.double(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [linear, lambda: nn.Conv2d(48, 40, 3)])
@torch.no_grad()
def test_a_weight_that_changes_is_noticed(change: str, make: Callable[[], nn.Module]):
    module: Any = make()
    x = drawn(2, 48, 8, 8) if isinstance(module, nn.Conv2d) else drawn(2, FEW, 48)
    layer = Rounded(module, Last())
    assert not asked(layer, x)
    CHANGES[change](module)
    assert asked(layer, x)


@torch.no_grad()
def test_a_bias_that_changes_is_followed():
    module: Any = linear()
    x, layer = drawn(2, FEW, 48), Rounded(module, Last())
    before = layer(refused, x)
    module.bias += 1
    assert torch.allclose(layer(refused, x), before + 1, atol=1e-5)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    seen: list[Tensor] = []

    def round(x: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return round_rows(x)

    monkeypatch.setattr(int8_products, "round_rows", round)
    return seen


@torch.inference_mode()
def test_who_reads_the_same_input_shares_its_rounding(monkeypatch: pytest.MonkeyPatch):
    seen, last = counted(monkeypatch), Last()
    query, key = Rounded(linear(), last), Rounded(linear(bias=False), last)
    x = drawn(2, FEW, 48)
    query(refused, x)
    shared = key(refused, x)
    assert len(seen) == 1 and torch.equal(shared, Rounded(linear(bias=False), Last()).run(x))
    x *= 2  # nobody counts the changes of an inference tensor
    assert torch.allclose(key(refused, x), 2 * shared, rtol=1e-4, atol=1e-5)
    key(refused, x.clone())
    assert len(seen) == 4
    del x
    assert last._kept is None


@torch.no_grad()
def test_hooks_and_adapters_go_on_working():
    module: Any = nn.Sequential(linear())
    with wrap(module[0], "forward", Rounded(module[0], Last())):
        x = drawn(2, FEW, 48)
        before = module(x)
        adapted: Any = inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), module)
        lora = adapted[0]
        assert torch.equal(adapted(x), before)  # an adapter begins as nothing
        nn.init.normal_(lora.lora_B["default"].weight)
        thin = lora.lora_B["default"](lora.lora_A["default"](x)) * lora.scaling["default"]
        assert torch.allclose(adapted(x), before + thin, atol=1e-5)
        lora.merge()
        exact = nn.functional.linear(x, lora.base_layer.weight, lora.base_layer.bias)
        assert torch.equal(adapted(x), exact)  # merged into the weight, which is noticed
        lora.base_layer.register_forward_hook(lambda own, given, found: found * 3)
        assert torch.equal(adapted(x), exact * 3)


def test_a_sample_sees_what_torch_does_not_count():
    own = drawn(3, 70)
    kept, one = Sample(own), Sample(drawn(1))
    assert kept.same() and one.same()
    own.data.add_(1)
    assert not kept.same()


@pytest.mark.parametrize("shape", [(320, 320), (1280, 640), (320, 320, 3, 3), (2, 4096, 320)])
def test_a_sample_looks_at_all_columns(shape: tuple[int, ...]):
    own = torch.zeros(shape)
    sample = Sample(own)
    own.data[:, 1:] += 1
    assert not sample.same()
    other = torch.zeros(shape)
    sample = Sample(other)
    other.data[..., : shape[-1] // 2] += 1
    assert not sample.same()


@torch.inference_mode()
def test_a_linear_layer_does_not_take_the_pixels_of_a_convolution():
    last, x = Last(), drawn(2, 48, 48, 48)
    pixels, tokens = nn.Conv2d(48, 40, 1), linear()
    Rounded(pixels, last).run(x.clone())
    both = Rounded(pixels, last), Rounded(tokens, last)
    both[0].run(x)
    assert torch.equal(both[1].run(x), Rounded(tokens, Last()).run(x))
