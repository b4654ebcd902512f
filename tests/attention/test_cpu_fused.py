"""Models of diffusers made fast on a CPU: the same numbers, and no trace when it is taken off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from diffusers.models.activations import GEGLU, GELU, SwiGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from mindsd import native
from mindsd.attention import cpu_fused
from mindsd.attention.cpu_fused import fuse_cpu, fuse_large
from mindsd.attention.cpu_fused_kernels import why_absent
from mindsd.attention.npu_offer import Offer
from mindsd.packed_weight import PackedWeight
from mindsd.prepack import MANY_ROWS, Kind
from mindsd.wrap import wrap
from tests.zoo.autoencoders import autoencoder
from tests.zoo.flux import flux
from tests.zoo.pixart import pixart
from tests.zoo.stable_diffusion import stable_diffusion, stable_diffusion_2

needs_compiler = pytest.mark.skipif(why_absent() is not None, reason=str(why_absent()))
Made = tuple[nn.Module, Callable[[], Tensor]]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def unet(dtype: torch.dtype, make: Callable[[], Any] = stable_diffusion) -> Made:
    model = make().unet.to(dtype)
    text = drawn(2, 7, model.config.cross_attention_dim).to(dtype)
    latents = drawn(2, 4, 16, 16).to(dtype)
    return model, lambda: model(latents, 500, text, return_dict=False)[0]


def unet_2(dtype: torch.dtype) -> Made:
    return unet(dtype, stable_diffusion_2)


def decoder(dtype: torch.dtype) -> Made:
    model: Any = autoencoder()
    model.to(dtype)
    latents = drawn(1, model.config.latent_channels, 8, 8).to(dtype)
    return model, lambda: model.decode(latents, return_dict=False)[0]


def dit(dtype: torch.dtype) -> Made:
    model: Any = pixart().transformer.to(dtype)
    config = model.config
    latents = drawn(2, config.in_channels, config.sample_size, config.sample_size).to(dtype)
    text = drawn(2, 7, config.caption_channels).to(dtype)
    told = {"resolution": None, "aspect_ratio": None}
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])

    def run() -> Tensor:
        given = {"timestep": torch.tensor([500, 20]), "added_cond_kwargs": told}
        return model(latents, text, **given, encoder_attention_mask=mask, return_dict=False)[0]

    return model, run


def mm_dit(dtype: torch.dtype) -> Made:
    model: Any = flux().transformer.to(dtype)
    config = model.config
    given = {
        "hidden_states": drawn(2, 16, config.in_channels).to(dtype),
        "encoder_hidden_states": drawn(2, 5, config.joint_attention_dim).to(dtype),
        "pooled_projections": drawn(2, config.pooled_projection_dim).to(dtype),
        "timestep": torch.tensor([0.5, 0.1]).to(dtype),
        "guidance": torch.ones(2).to(dtype) if config.guidance_embeds else None,
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(5, 3),
    }
    return model, lambda: model(**given, return_dict=False)[0]


KERNELS = {
    unet: {"resnet", "geglu", "layer_norm", "group_norm", "tokens_to_image"},
    unet_2: {"resnet", "geglu", "layer_norm", "group_norm", "tokens_to_image"},
    decoder: {"resnet", "group_norm"},
    dit: {"dit_block", "gelu_tanh"},
    mm_dit: {"modulated", "gelu_tanh"},
}


@needs_compiler
@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("dtype, most", [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
@torch.inference_mode()
def test_a_model_gives_what_it_gave(make, dtype, most):
    model, run = make(dtype)
    plain, weights = run(), list(model.parameters())
    with fuse_cpu(model) as fused:  # pyright: ignore[reportOptionalContextManager]
        found = run()
    assert float((found - plain).abs().max() / plain.abs().max()) <= most
    assert not torch.equal(found, plain)  # it ran otherwise
    assert KERNELS[make] <= set(fused.served.values()) and not fused.left
    assert torch.equal(run(), plain) and list(map(id, model.parameters())) == list(map(id, weights))
    for module in model.modules():
        assert not {"forward", cpu_fused.OUTPUT} & set(vars(module))


@needs_compiler
def test_every_block_runs_as_a_whole_and_its_own_norms_not_twice():
    model, _ = unet(torch.float32)
    with fuse_cpu(model) as fused:  # pyright: ignore[reportOptionalContextManager]
        served = Counter(fused.served.values())
        assert served["resnet"] == sum("Resnet" in type(own).__name__ for own in model.modules())
        assert not any(name.endswith("resnets.0.norm1") for name in fused.served)
        assert isinstance(model.get_parameter("conv_in.weight"), PackedWeight)


@needs_compiler
@torch.inference_mode()
def test_what_differs_is_left(monkeypatch: pytest.MonkeyPatch):
    def wrong(module: Any) -> Offer | None:
        def run(original: Any, x: Tensor) -> Tensor:
            return original(x) * 1.1

        def trials() -> Any:
            x = drawn(1, 4, module.weight.shape[0])
            yield module(x), run(module, x)

        return Offer("wrong", module, run, trials, 1e-3) if type(module) is nn.LayerNorm else None

    monkeypatch.setattr(cpu_fused, "KINDS", (wrong,))
    model, run = unet(torch.float32)
    plain = run()
    with fuse_cpu(model) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert not fused.served and "wrong is off by 0.1" in next(iter(fused.left.values()))
        assert torch.allclose(run(), plain, atol=1e-5)


@needs_compiler
@torch.inference_mode()
def test_who_looks_at_a_norm_or_a_product_inside_a_block_sees_it():
    model, run = unet(torch.float32)
    block: Any = model.get_submodule("mid_block.resnets.0")
    plain, seen = run(), []
    with fuse_cpu(model):  # pyright: ignore[reportOptionalContextManager]
        block.norm1.register_forward_hook(lambda *told: seen.append("norm"))
        block.conv2.register_forward_hook(lambda module, given, found: seen.append(found))
        with wrap(block.norm2, "forward", lambda original, x: original(x) * 2):
            found = run()
    assert seen[0] == "norm" and isinstance(seen[1], Tensor)
    assert not torch.allclose(found, plain, atol=1e-4)  # what was laid round norm2 counts


@needs_compiler
@pytest.mark.parametrize("module", [SwiGLU(24, 40), GELU(24, 40), GELU(24, 40, "tanh")])
@torch.inference_mode()
def test_gates_that_these_models_lack(module: nn.Module):
    x = drawn(2, 5, 24)
    plain = module(x)
    with fuse_cpu(nn.Sequential(module)) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert list(fused.served) == ["0"]
        assert torch.allclose(module(x), plain, atol=1e-5)


@needs_compiler
def test_gradients_go_the_models_own_way():
    model, run = decoder(torch.float32)
    with fuse_cpu(model):  # pyright: ignore[reportOptionalContextManager]
        run().sum().backward()
        assert model.get_parameter("decoder.conv_in.weight").grad is not None


@torch.inference_mode()
def test_without_a_compiler_layers_are_prepacked_and_nothing_is_fused(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv(native.OFF, "off")
    model, run = unet(torch.float32)
    plain = run()
    with fuse_cpu(model) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert fused.prepacked.names and not fused.served
        assert torch.allclose(run(), plain, atol=1e-5)


def test_small_models_keep_their_own_numbers(monkeypatch: pytest.MonkeyPatch):
    model, _ = unet(torch.float32)
    assert not fuse_large({"unet": model}) and fuse_cpu(nn.Linear(2, 2).to("meta")) is None
    monkeypatch.setattr(cpu_fused, "SMALL_MODEL", 2**16)
    for own in fuse_large({"unet": model}).values():
        own.remove()
        own.remove()
        assert own.prepacked.names


def test_nothing_small_keeps_a_whole_file_in_memory():
    norm, file = nn.LayerNorm(8), drawn(1000)
    norm.weight.data = file[8:16]
    with torch.inference_mode():
        before = norm(drawn(2, 8))
        fused = fuse_cpu(norm)
        assert fused is not None
        with fused:
            assert norm.weight.untyped_storage().nbytes() == norm.weight.nbytes
            assert torch.allclose(norm(drawn(2, 8)), before, atol=1e-6)
    assert torch.equal(norm.weight, file[8:16])


@needs_compiler
@pytest.mark.parametrize("module", [GEGLU(64, 64), GELU(64, 128, "tanh"), GELU(64, 128)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_under_autocast_a_model_does_what_it_did(module: nn.Module, dtype: torch.dtype):
    x = drawn(2, 5, 64)
    with torch.autocast("cpu", dtype=dtype):
        plain = module(x)
    with fuse_cpu(nn.Sequential(module)) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert fused.served
        with torch.autocast("cpu", dtype=dtype):
            found = module(x)
    assert found.dtype is plain.dtype and torch.allclose(found, plain, atol=1e-2)


@needs_compiler
@torch.inference_mode()
def test_what_a_layer_inside_gives_is_looked_at():
    gate, block = GEGLU(64, 64), residual()
    x, image = drawn(2, 5, 64), drawn(1, 64, 8, 8)
    with fuse_cpu(nn.Sequential(gate)):  # pyright: ignore[reportOptionalContextManager]
        plain = gate(x)
        gate.proj.register_forward_hook(lambda module, given, found: found.half())
        found = gate(x)
    assert found.dtype is torch.float16 and torch.allclose(found.float(), plain, atol=1e-2)
    with fuse_cpu(nn.Sequential(block)):  # pyright: ignore[reportOptionalContextManager]
        block.conv1.register_forward_hook(lambda module, given, found: found.half())
        with pytest.raises(RuntimeError, match="should be the same"):
            block(image, None)


def residual() -> ResnetBlock2D:
    """A block of 64 channels that no time enters."""
    return ResnetBlock2D(in_channels=64, temb_channels=cast(Any, None)).eval()


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.zero, self.layer = AdaLayerNormZero(64), nn.LayerNorm(64)
        self.last = AdaLayerNormContinuous(64, 64, elementwise_affine=False)
        self.group = nn.GroupNorm(8, 64)
        self.block = residual()


@needs_compiler
@torch.inference_mode()
def test_what_does_not_fit_a_norm_is_the_models_own_to_broadcast_or_refuse():
    model, x, one = Norms().eval(), drawn(4, 5, 64), drawn(1, 64)
    plain = model.last(x, one), model.zero(x, emb=one)
    with fuse_cpu(model) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert {"modulated", "layer_norm", "group_norm", "resnet"} <= set(fused.served.values())
        found = model.last(x, one), model.zero(x, emb=one)
        assert torch.allclose(found[0], plain[0], atol=1e-5)
        assert all(map(partial(torch.allclose, atol=1e-5), found[1], plain[1]))
        wide, image = drawn(2, 5, 96), drawn(2, 128, 4, 4)
        refused = [
            lambda: model.layer(wide),
            lambda: model.last(wide, drawn(2, 64)),
            lambda: model.group(image),
            lambda: model.block(image, None),
        ]
        for call in refused:
            with pytest.raises(RuntimeError, match="64"):
                call()


@needs_compiler
@torch.inference_mode()
def test_blocks_are_called_as_their_classes_allow():
    kind = {"norm_type": "ada_norm_single", "norm_elementwise_affine": False}
    dit: Any = BasicTransformerBlock(64, 2, 32, cross_attention_dim=64, **kind).eval()
    model = nn.ModuleList([dit, resnet := residual()])
    x, text, time, image = drawn(2, 5, 64), drawn(2, 3, 64), drawn(2, 384), drawn(1, 64, 8, 8)
    labels = torch.tensor([1, 2])
    calls: list[Callable[[], Tensor]] = [
        lambda: dit(x, None, text, None, time),
        lambda: dit(x, encoder_hidden_states=text, timestep=time, class_labels=labels),
        lambda: dit(hidden_states=x, encoder_hidden_states=text, timestep=time),
        lambda: dit.ff.net[0](hidden_states=x),
        lambda: resnet(input_tensor=image, temb=None),
    ]
    plain = [call() for call in calls]
    with fuse_cpu(model) as fused:  # pyright: ignore[reportOptionalContextManager]
        assert {"dit_block", "resnet"} <= set(fused.served.values())
        for call, expected in zip(calls, plain, strict=True):
            assert torch.allclose(call(), expected, atol=1e-5)


def layers(count: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(256, 256) for _ in range(count)))


def fails_at(number: int) -> Kind:
    """Linear layers, of which one finds no memory."""
    seen: list[Any] = []

    def pack(module: Any) -> Tensor:
        seen.append(module)
        if len(seen) == number:
            raise MemoryError("short")
        return MANY_ROWS.pack(module)

    return replace(MANY_ROWS, pack=pack)


def untouched(model: nn.Module) -> bool:
    packed = any(isinstance(own, PackedWeight) for own in model.parameters())
    return not packed and not any("forward" in vars(own) for own in model.modules())


def test_what_fails_half_way_leaves_no_trace(monkeypatch: pytest.MonkeyPatch):
    models = {"one": layers(2), "two": layers(3)}
    before = [own.clone() for model in models.values() for own in model.parameters()]
    monkeypatch.setattr(cpu_fused, "SMALL_MODEL", 0)
    monkeypatch.setattr(cpu_fused, "LAYERS", (fails_at(4),))
    with pytest.raises(MemoryError):
        fuse_large(models)
    after = [own for model in models.values() for own in model.parameters()]
    assert all(map(untouched, models.values())) and all(map(torch.equal, after, before))


@needs_compiler
def test_a_norm_that_fails_half_way_leaves_no_trace(monkeypatch: pytest.MonkeyPatch):
    def kind(module: Any) -> Offer | None:
        if isinstance(module, nn.LayerNorm):
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(cpu_fused, "KINDS", (*cpu_fused.KINDS[:-1], kind))
    model = nn.Sequential(*layers(2), nn.GroupNorm(2, 4), nn.LayerNorm(256))
    with pytest.raises(KeyboardInterrupt):
        fuse_cpu(model)
    assert untouched(model)


@torch.no_grad()
def test_weights_that_models_share_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_fused, "SMALL_MODEL", 0)
    one, two, x = layers(2), layers(2), drawn(3, 256)
    one[0].weight = two[1].weight  # pyright: ignore[reportAttributeAccessIssue]
    plain = one(x), two(x)
    found = fuse_large({"one": one, "two": two, "same": one})
    kinds = [isinstance(own.weight, PackedWeight) for own in (*one, *two)]
    assert kinds == [False, True, True, False]
    assert torch.allclose(one(x), plain[0], atol=1e-5)
    assert torch.allclose(two(x), plain[1], atol=1e-5)
    for own in found.values():
        own.remove()
    assert torch.equal(one(x), plain[0]) and torch.equal(two(x), plain[1])
