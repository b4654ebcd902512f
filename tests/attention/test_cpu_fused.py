"""Models of diffusers made fast on a CPU: the same numbers, and no trace when it is taken off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.activations import GELU, SwiGLU
from torch import Tensor, nn

from mindsd import native
from mindsd.attention import cpu_fused
from mindsd.attention.cpu_fused import fuse_cpu, fuse_large
from mindsd.attention.cpu_fused_kernels import why_absent
from mindsd.attention.npu_offer import Offer
from mindsd.packed_weight import PackedWeight
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
