"""Pipelines that change what requests share draw alone, right, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig, StableDiffusionPAGPipeline
from peft import LoraConfig

from mindsd import TextToImage
from mindsd.errors import Cancelled, RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.solo import why_solo
from mindsd.request import Notice, Request, Step
from tests.zoo.cases import CASES, PROMPTS, SIDE
from tests.zoo.drawing import held, levels_apart, plain
from tests.zoo.flux import flux
from tests.zoo.stable_diffusion import stable_diffusion

SIZE: dict[str, Any] = {"width": SIDE, "height": SIDE}


def agree(pipe: Any, options: Sequence[dict[str, Any]], steps: int = 3) -> list[Request]:
    """Requests with these options, live together, all draw what plain diffusers draws."""
    wished = [
        ImageParameters(prompt, steps=steps, seed=seed, **SIZE, options=own)
        for seed, (prompt, own) in enumerate(zip(PROMPTS, options, strict=False))
    ]
    asked = [
        {"prompt": one.prompt, "num_inference_steps": steps, "seed": one.seed, **SIZE}
        | dict(one.options)
        for one in wished
    ]
    references = [plain(pipe, one) for one in asked]
    with TextToImage.load(pipe, device="cpu") as model:
        with held(model.engine):
            requests = [model.submit(one) for one in wished]
        images = [request.result(60) for request in requests]
    assert max(map(levels_apart, images, references)) <= 1
    return requests


def told(request: Request) -> list[str]:
    return [event.text for event in request.events() if isinstance(event, Notice)]


def test_perturbed_attention_guidance():
    parts = CASES["sd"].build().components
    pipe = StableDiffusionPAGPipeline(
        **parts, requires_safety_checker=False, pag_applied_layers=["mid"]
    )
    requests = agree(pipe, [{"pag_scale": 3.0}, {"pag_scale": 0.0}])
    assert "attention processors" in told(requests[0])[0]


def test_what_a_cancelled_one_changed_is_put_back():
    parts = CASES["sd"].build().components
    pipe: Any = StableDiffusionPAGPipeline(
        **parts, requires_safety_checker=False, pag_applied_layers=["mid"]
    )
    before = dict(pipe.unet.attn_processors)
    with TextToImage.load(pipe, device="cpu") as model:
        wish = ImageParameters("a cat", steps=20, **SIZE, options={"pag_scale": 3.0})
        request = model.submit(wish)
        next(event for event in request.events() if isinstance(event, Step))
        request.cancel()
        with pytest.raises(Cancelled):
            request.result(60)
        assert model.engine.drain(60)
        assert pipe.unet.attn_processors == before


def test_a_cache_of_diffusers():
    pipe = flux()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.2))
    requests = agree(pipe, [{"max_sequence_length": 16}] * 2, steps=4)
    assert "a diffusers cache is enabled" in told(requests[0])[0]


def test_a_lora_scale_on_the_text_encoder():
    pipe = with_text_adapter(stable_diffusion())
    scaled = {"cross_attention_kwargs": {"scale": 0.2}}
    asked = {"prompt": PROMPTS[0], "seed": 0, "num_inference_steps": 3, **SIZE}
    assert not torch.equal(plain(pipe, asked), plain(pipe, asked | scaled))
    first, second, third = agree(pipe, [scaled, {}, scaled])
    assert "LoRA scale" in told(first)[0] and not told(second)


def test_a_lora_scale_where_no_text_encoder_has_an_adapter_shares_forwards():
    options = {"cross_attention_kwargs": {"scale": 0.2}}
    assert why_solo(stable_diffusion(), options) is None
    assert why_solo(with_text_adapter(stable_diffusion()), {}) is None


def test_it_is_not_accelerated():
    pipe = flux()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.2))
    with (
        TextToImage.load(pipe, device="cpu") as model,
        pytest.raises(RequestError, match="no acceleration where a diffusers cache is enabled"),
    ):
        model("a cat", speed="balanced", **SIZE)


def test_offloading_hooks():
    pipe: Any = stable_diffusion()
    pipe._all_hooks = ["as enable_model_cpu_offload leaves them where there is an accelerator"]
    assert "offloaded" in str(why_solo(pipe, {}))


@pytest.mark.parametrize("family", [name for name in CASES if "controlnet" not in name])
def test_the_others_share_forwards(family: str):
    assert why_solo(CASES[family].pipe(), {}) is None


def with_text_adapter(pipe: Any) -> DiffusionPipeline:
    """A LoRA on the text encoder's attention, large enough to matter."""
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"])
    pipe.text_encoder.add_adapter(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in pipe.text_encoder.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return pipe
