"""Denoisers in 8 bits on a CPU: which layers, with what result, and no trace when it is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mindsd.attention import int8_layers, int8_products
from mindsd.attention.cpu_fused import fuse_cpu
from mindsd.attention.int8_layers import cannot_round_layers, round_layers
from mindsd.attention.int8_products import Rounded
from mindsd.attention.layers import IMAGE_EIGHT_BITS, IMAGE_LAYERS, check_layers
from mindsd.errors import RequestError
from mindsd.packed_weight import PackedWeight
from tests.zoo.flux import flux
from tests.zoo.pixart import pixart
from tests.zoo.stable_diffusion import stable_diffusion, stable_diffusion_2

HERE = cannot_round_layers("cpu", torch.float32)
pytestmark = pytest.mark.skipif(HERE is not None, reason=str(HERE))
DTYPES = (torch.float32, torch.bfloat16)
Call = Callable[[], Tensor]


@pytest.fixture(autouse=True)
def _small_layers_count(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    monkeypatch.setattr(int8_layers, "LEAST", 16)


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def unet(dtype: torch.dtype, make: Callable[[], Any] = stable_diffusion) -> tuple[nn.Module, Call]:
    model = make().unet.to(dtype)
    text = drawn(2, 7, model.config.cross_attention_dim, dtype=dtype)
    latents = drawn(2, 4, 16, 16, dtype=dtype)
    return model, lambda: model(latents, 500, text, return_dict=False)[0]


def unet_2(dtype: torch.dtype) -> tuple[nn.Module, Call]:
    return unet(dtype, stable_diffusion_2)


def dit(dtype: torch.dtype) -> tuple[nn.Module, Call]:
    model: Any = pixart().transformer.to(dtype)
    side, told = 2 * model.config.sample_size, {"resolution": None, "aspect_ratio": None}
    latents = drawn(2, model.config.in_channels, side, side, dtype=dtype)
    given: dict[str, Any] = {"timestep": torch.tensor([500, 20]), "added_cond_kwargs": told}
    given["encoder_hidden_states"] = drawn(2, 7, model.config.caption_channels, dtype=dtype)
    return model, lambda: model(latents, **given, return_dict=False)[0]


def mm_dit(dtype: torch.dtype) -> tuple[nn.Module, Call]:
    model: Any = flux().transformer.to(dtype)
    config = model.config
    given = {
        "hidden_states": drawn(2, 64, config.in_channels, dtype=dtype),
        "encoder_hidden_states": drawn(2, 5, config.joint_attention_dim, dtype=dtype),
        "pooled_projections": drawn(2, config.pooled_projection_dim, dtype=dtype),
        "timestep": torch.tensor([0.5, 0.1], dtype=dtype),
        "guidance": torch.ones(2, dtype=dtype) if config.guidance_embeds else None,
        "img_ids": torch.zeros(64, 3),
        "txt_ids": torch.zeros(5, 3),
    }
    return model, lambda: model(**given, return_dict=False)[0]


def cosine(one: Tensor, other: Tensor) -> float:
    pair = one.double().flatten(), other.double().flatten()
    return float(torch.nn.functional.cosine_similarity(*pair, dim=0))


@pytest.mark.parametrize("make", [unet, unet_2, dit, mm_dit])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_a_denoiser_gives_nearly_what_it_gave_and_all_of_it_is_undone(make: Any, dtype: Any):
    model, run = make(dtype)
    plain, weights = run(), list(model.parameters())
    with round_layers(model) as fused:
        alone = run()
        with fuse_cpu(model) as faster:  # pyright: ignore[reportOptionalContextManager]
            together = run()
            assert not set(fused.served) & set(faster.prepacked.names)
            kept = [model.get_submodule(name).weight for name in fused.served]
            assert not any(isinstance(own, PackedWeight) for own in kept)
    for found in (alone, together):
        assert found.dtype is dtype and not torch.equal(found, plain)
        assert cosine(found, plain) > 0.999
    assert torch.equal(run(), plain) and list(map(id, model.parameters())) == list(map(id, weights))
    assert not any("forward" in vars(module) for module in model.modules())


def test_what_is_left_plain_has_a_reason():
    model, _ = unet(torch.float32)
    with round_layers(model) as fused:
        block = "down_blocks.1.attentions.0.transformer_blocks.0"
        assert fused.left["conv_in"] == "stands outside of the repeated blocks"
        assert fused.left["conv_out"] == "stands outside of the repeated blocks"
        assert fused.left["down_blocks.0.resnets.0.time_emb_proj"].startswith("embeds, modulates")
        assert fused.left[f"{block}.attn2.to_k"] == "reads the text"
        assert fused.served[f"{block}.attn1.to_k"] == fused.served[f"{block}.attn2.to_q"]
        assert fused.served["down_blocks.1.attentions.0.proj_in"] == "qconv"
        layers = [own for own in model.modules() if isinstance(own, nn.Linear | nn.Conv2d)]
        assert len(layers) == len(fused.served) + len(fused.left)
    model, _ = dit(torch.float32)
    with round_layers(model) as fused:
        assert fused.left["proj_out"] == "stands outside of the repeated blocks"
        assert not [name for name in fused.served if "adaln" in name or "embed" in name]


def test_strange_layers_are_left():
    conv = nn.Conv2d(32, 32, 3, padding_mode="reflect"), nn.Conv2d(32, 32, 3, groups=2)
    other = type("Other", (nn.Linear,), {})(32, 32)
    hooked = nn.Linear(32, 32)
    hooked.register_forward_hook(lambda *_: None)
    with round_layers(nn.Sequential(nn.Linear(32, 32), *conv, other, hooked)) as fused:
        assert fused.served == {"0": "qlinear"}
        assert fused.left == {
            "1": "has groups, or pads otherwise than with zeros",
            "2": "has groups, or pads otherwise than with zeros",
            "3": "is a Other, not a plain layer",
            "4": "is run by somebody else already",
        }


def test_what_lies_in_a_file_is_copied_before_it_is_rounded():
    layer, file = nn.Linear(32, 48), drawn(64, 48, 32)
    layer.weight.data, model = file[3], nn.Sequential(layer)
    x = drawn(2, 64, 32)
    with torch.inference_mode():
        exact = model(x)
        with round_layers(model), fuse_cpu(model):  # pyright: ignore[reportOptionalContextManager]
            rounded = model(x)
            assert layer.weight.untyped_storage().nbytes() == layer.weight.nbytes
    assert not torch.allclose(rounded, exact, rtol=1e-4) and torch.equal(layer.weight, file[3])


@torch.inference_mode()
def test_what_differs_is_left(monkeypatch: pytest.MonkeyPatch):
    right = int8_products.round_rows
    monkeypatch.setattr(int8_products, "round_rows", lambda x: (right(x)[0], right(x)[1] * 2))
    model = nn.Sequential(nn.Linear(32, 32), nn.Conv2d(32, 32, 3))
    with round_layers(model) as fused:
        assert fused.served == {"1": "qconv"} and "qlinear is off by" in fused.left["0"]


def test_a_model_without_such_layers_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(int8_layers, "LEAST", 10**6)
    with pytest.raises(RequestError, match="UNet2DConditionModel is taken: .*a side under 1000000"):
        round_layers(unet(torch.float32)[0])


def test_what_fails_half_way_leaves_no_trace(monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []

    def short(module: Any, last: Any) -> Rounded:
        made.append(module)
        if len(made) == 3:
            raise MemoryError("short")
        return Rounded(module, last)

    monkeypatch.setattr(int8_layers, "Rounded", short)
    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(4)))
    with pytest.raises(MemoryError):
        round_layers(model)
    assert not any("forward" in vars(own) for own in model)


def test_refusals_by_name(monkeypatch: pytest.MonkeyPatch):
    words = IMAGE_LAYERS, IMAGE_EIGHT_BITS
    check_layers("int8", "cpu", torch.bfloat16, *words)
    with pytest.raises(RequestError, match="'int8': int8 is computed on a CPU only; .* on cuda"):
        check_layers("int8", "cuda", torch.bfloat16, *words)
    with pytest.raises(RequestError, match="float32 and bfloat16; the model is in float16"):
        check_layers("int8", "cpu", torch.float16, *words)
    with pytest.raises(RequestError, match="the model is in float16"):
        round_layers(nn.Sequential(nn.Linear(32, 32)).half())
    monkeypatch.setattr(int8_layers, "cpu_facts", lambda: ("a CPU", ("avx2", "avx512f")))
    reason = cannot_round_layers("cpu", torch.float32)
    assert reason == "this processor has neither avx512_vnni nor amx_int8"
    monkeypatch.setattr(int8_layers, "OPERATORS", ("qlinear_of_tomorrow",))
    assert "has no onednn.qlinear_of_tomorrow" in str(cannot_round_layers("cpu", torch.float32))
